// As in Agentry's recipe: one request for each call, and nobody looks at the answer. No id, no time.
const { url, key, events, drive } = require("./driver_input.cjs");

drive(async (report) => {
  for (const { account } of events) {
    const answer = await fetch(`${url}/v1/analytics/my-api/`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
      body: JSON.stringify({
        event: "api_call",
        distinct_id: account,
        properties: { endpoint: "/v1/search", status: 200 },
      }),
    });
    if (!answer.ok) report(`${answer.status} ${await answer.text()}`);
  }
});
