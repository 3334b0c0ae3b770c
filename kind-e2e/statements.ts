// What goes with an image: its parts (CycloneDX) and how it was made (SLSA provenance, in-toto). Both are functions of
// their inputs alone: no time, no random serial, so that two builds can be compared byte for byte.
import { sha256, type Image } from "./archive.ts";
import type { Base } from "./base.ts";

export type Contents = {
  readonly name: string;
  readonly version: string;
  readonly base: Base;
  /** npm packages whose code was bundled: name → version. */
  readonly packages: ReadonlyMap<string, string>;
  /** The bundled files, by their path in the image: SHA-256. */
  readonly files: ReadonlyMap<string, string>;
};

type Component = {
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly sha256?: string;
};

const component = ({ type, name, version, purl, sha256: hash }: Component): object => ({
  type,
  "bom-ref": purl,
  name,
  version,
  purl,
  ...(hash === undefined ? {} : { hashes: [{ alg: "SHA-256", content: hash }] }),
});

const npm = (name: string, version: string): string => `pkg:npm/${name.replace("@", "%40")}@${version}`;

// A serial number of the form that CycloneDX asks for, made from the content instead of drawn.
const serial = (text: string): string => {
  const h = sha256(text);
  const variant = ((Number.parseInt(h.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return `urn:uuid:${h.slice(0, 8)}-${h.slice(8, 12)}-5${h.slice(13, 16)}-${variant}${h.slice(17, 20)}-${h.slice(20, 32)}`;
};

/** The bill of materials, CycloneDX 1.6. */
export function billOfMaterials(contents: Contents, image: Image): string {
  const { base, packages, files } = contents;
  const components = [
    ...base.debian.map((d) =>
      component({
        type: "library",
        name: d.name,
        version: d.version,
        purl: `pkg:deb/debian/${encodeURIComponent(d.name)}@${encodeURIComponent(d.version)}?arch=${d.architecture}`,
        sha256: d.sha256,
      }),
    ),
    component({
      type: "platform",
      name: base.node.package,
      version: base.node.version,
      purl: npm(base.node.package, base.node.version),
      sha256: base.node.sha256,
    }),
    ...[...packages].map(([name, version]) =>
      component({ type: "library", name, version, purl: npm(name, version) }),
    ),
    ...[...files].map(([path, hash]) => ({
      type: "file",
      "bom-ref": `file:${path}`,
      name: path,
      hashes: [{ alg: "SHA-256", content: hash }],
    })),
  ];
  const subject = {
    type: "container",
    "bom-ref": `${contents.name}@${image.digest}`,
    name: contents.name,
    version: contents.version,
    hashes: [{ alg: "SHA-256", content: image.digest.slice("sha256:".length) }],
  };
  const body = { metadata: { component: subject }, components };
  return `${JSON.stringify(
    {
      $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
      bomFormat: "CycloneDX",
      specVersion: "1.6",
      serialNumber: serial(JSON.stringify(body)),
      version: 1,
      ...body,
    },
    null,
    2,
  )}\n`;
}

/** How it was made: SLSA provenance v1 as an in-toto statement, unsigned. */
export function provenance(
  contents: Contents,
  image: Image,
  source: { readonly commit: string; readonly lockfile: string },
): string {
  return `${JSON.stringify(
    {
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: image.reference, digest: { sha256: image.digest.slice("sha256:".length) } }],
      predicateType: "https://slsa.dev/provenance/v1",
      predicate: {
        buildDefinition: {
          buildType: "https://atoll.dev/build/image/v1",
          externalParameters: { image: contents.name },
          internalParameters: {},
          resolvedDependencies: [
            { uri: "git+file:.", digest: { gitCommit: source.commit } },
            { uri: "package-lock.json", digest: { sha256: source.lockfile } },
            {
              uri: npm(contents.base.node.package, contents.base.node.version),
              digest: { sha256: contents.base.node.sha256 },
            },
            ...contents.base.debian.map((d) => ({
              uri: `pkg:deb/debian/${encodeURIComponent(d.name)}@${encodeURIComponent(d.version)}?arch=${d.architecture}`,
              digest: { sha256: d.sha256 },
            })),
          ],
        },
        runDetails: { builder: { id: "https://atoll.dev/kind-e2e/images.ts" } },
      },
    },
    null,
    2,
  )}\n`;
}
