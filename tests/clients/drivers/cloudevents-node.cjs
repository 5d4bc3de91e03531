const { url, key, events, options, insist, drive } = require("./driver_input.cjs");
const { CloudEvent, HTTP, Mode, emitterFor, httpTransport } = require("cloudevents");

drive(async () => {
  const mode = options.has("binary") ? Mode.BINARY : Mode.STRUCTURED;
  const emit = emitterFor(httpTransport(`${url}/events`), { binding: HTTP, mode });
  for (const { id, account, time } of events) {
    const data = { account_id: account, endpoint: "/v1/search", status: 200 };
    const event = new CloudEvent({ id, source: "my-api", type: "api_call", time, data });
    await insist(() => emit(event, { headers: { Authorization: `Bearer ${key}` } }));
  }
});
