const { url, key, events, options, drive } = require("./driver_input.cjs");
const { PostHog } = require("posthog-node");

if (options.has("v1")) process.env.POSTHOG_CAPTURE_MODE = "v1";

drive(async (report) => {
  const client = new PostHog(key, { host: url });
  client.on("error", report);
  for (const { id, account, time } of events) {
    client.capture({
      event: "api_call",
      distinctId: "a person of the account",
      properties: { account_id: account, endpoint: "/v1/search", status: 200 },
      timestamp: new Date(time),
      uuid: id,
    });
  }
  await client.shutdown();
});
