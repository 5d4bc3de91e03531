const { url, key, events, options, insist, drive } = require("./driver_input.cjs");
const { OpenMeter } = require("@openmeter/sdk");

drive(async () => {
  const client = new OpenMeter({ baseUrl: url, apiKey: key });
  const all = events.map(({ id, account, time }) => ({
    id,
    source: "my-api",
    type: "api_call",
    subject: account,
    time: new Date(time),
    data: { endpoint: "/v1/search", status: "200" },
  }));
  if (options.has("batch")) return insist(() => client.events.ingest(all));
  for (const one of all) await insist(() => client.events.ingest(one));
});
