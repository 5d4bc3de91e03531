// A command of several lines goes on behind `> `. The highlighter takes these lines for an answer, which the button that
// copies a block leaves out.
for (const line of document.querySelectorAll(".language-console .go")) {
  if (!line.textContent.startsWith("> ")) continue;
  const prompt = document.createElement("span");
  prompt.className = "gp";
  prompt.textContent = "> ";
  line.className = "";
  line.textContent = line.textContent.slice(prompt.textContent.length);
  line.before(prompt);
}
