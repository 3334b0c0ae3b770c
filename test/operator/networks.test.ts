// A change of a NetworkPolicy, seen by the controller: whose business it is.
import { expect, test } from "vitest";
import { makeNetworks } from "../../operator/controllers/networks.ts";
import { makePodIndex } from "../../operator/controllers/pods.ts";
import type { GuardianSidecar, JsonMap } from "../../operator/kinds/kinds.ts";

type Options = Parameters<typeof makeNetworks>[0];
const wide = (namespace: string): JsonMap => ({
  metadata: { namespace, name: "np" },
  spec: { podSelector: {}, policyTypes: ["Egress"], egress: [{}] },
});

function scene() {
  const pods = makePodIndex();
  const sidecars = new Map<string, GuardianSidecar>();
  for (const team of ["a", "b"]) {
    sidecars.set(team, { metadata: { name: team }, spec: {} } as unknown as GuardianSidecar);
    for (const place of [team, "shared"])
      pods.set(`${place}/agent-${team}`, {
        namespace: place,
        name: `agent-${team}`,
        uid: `${place}-${team}`,
        labels: { "atoll.dev/sidecar": team },
        shape: "x",
        ready: true,
        finished: false,
        frozen: "",
        freezeStamp: "",
        unfreeze: "",
      });
  }
  const touched: string[] = [];
  let change: (object: JsonMap) => void = () => undefined;
  let gone: (key: string) => void = () => undefined;
  const networks = makeNetworks({
    client: {} as Options["client"],
    manager: "m",
    pods,
    sidecars: () => sidecars,
    follow: (_path, project, onChange) => {
      const items = new Map<string, ReturnType<typeof project>>();
      change = (object) => {
        const value = project(object);
        const key = `${value.namespace}/${value.name}`;
        items.set(key, value);
        onChange(key, value);
      };
      gone = (key) => {
        items.delete(key);
        onChange(key, undefined);
      };
      return { items, synced: Promise.resolve(), staleness: () => 0, stop: () => undefined };
    },
    touch: (name) => void touched.push(name),
  });
  const widened = (name: string): readonly string[] => {
    const sidecar = sidecars.get(name);
    return sidecar === undefined ? [] : networks.widenings(sidecar).flatMap((w) => w.pods);
  };
  return {
    networks,
    widened,
    change: (object: JsonMap) => change(object),
    gone: (key: string) => gone(key),
    touched: () => touched.splice(0),
  };
}

test("a wide policy is told to the sidecars that have pods in its namespace, and to no other", () => {
  const { networks, widened, change, gone, touched } = scene();
  change(wide("a"));
  expect(touched()).toEqual(["a"]);
  expect(widened("a")).toEqual(["a/agent-a"]);
  expect(widened("b")).toEqual([]);
  change(wide("shared"));
  expect(touched()).toEqual(["a", "b"]);
  expect(widened("b")).toEqual(["shared/agent-b"]);
  change(wide("elsewhere"));
  expect(touched()).toEqual([]);
  // What was opened while it stood stays open after it is gone.
  gone("a/np");
  expect(touched()).toEqual(["a"]);
  expect(widened("a")).toEqual(["shared/agent-a"]);
  expect(networks.exposed("a")).toEqual(["a/agent-a", "shared/agent-a"]);
  expect(networks.exposed("b")).toEqual(["shared/agent-b"]);
});
