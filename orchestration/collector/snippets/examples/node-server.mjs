/** Node: `node node-server.mjs`, with headroom-events.js beside it. SIGTERM ends Node at once, unless it is an end. */
import { createServer } from "node:http";
import { HeadroomEvents } from "./headroom-events.js";

const headroom = new HeadroomEvents(process.env.HEADROOM_URL, process.env.HEADROOM_KEY);
const server = createServer((request, response) => {
  const account = new URL(request.url, "http://localhost").searchParams.get("account");
  headroom.capture(account, { endpoint: "/search", status: 200 });
  response.end("nothing found");
}).listen(Number(process.argv[2]), "127.0.0.1");

process.once("SIGTERM", () => server.close(() => headroom.close(5000)));
