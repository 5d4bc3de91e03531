const { url, key, events, drive } = require("./driver_input.cjs");
const { Analytics } = require("@segment/analytics-node");

drive(async (report) => {
  const client = new Analytics({ writeKey: key, host: url });
  client.on("error", report);
  for (const { id, account, time } of events) {
    const event = {
      event: "api_call",
      userId: "a person of the account",
      properties: { account_id: account, endpoint: "/v1/search", status: 200 },
      timestamp: new Date(time),
      messageId: id,
    };
    client.track(event, (error) => error && report(error));
  }
  await client.closeAndFlush({ timeout: 60_000 });
});
