// The demo's policy: a repository agent that may read and write issues, has to ask for releases, and never deletes.

export interface Places {
  readonly model: string;
  readonly tools: string;
  readonly approver: string;
  readonly module: string;
  /** Service account of the agent; `guard` where there is no cluster. */
  readonly serviceAccount?: string;
}

export const demoPolicy = (p: Places): string => `apiVersion: atoll.dev/policy/v1
name: repo-agents
layer: P1
connectors:
  openai: { kind: openai, url: "${p.model}", credential: MODEL_KEY }
  github: { kind: mcp, url: "${p.tools}", credential: GITHUB_TOKEN }
${p.module === "" ? "" : "  calc: { kind: wasm }\n"}tools:
  - name: tool:github/list_issues
    effect: E1
    sideEffect: read_only
    sandbox: isolated
    trust: trusted
    input: { type: object, required: [repo], properties: { repo: { type: string, maxLength: 100 } } }
  - name: tool:github/create_issue
    effect: E2
    sideEffect: write_limited
    sandbox: isolated
    trust: trusted
    idempotency: key
    input: { type: object, required: [repo, title], properties: { repo: { type: string, maxLength: 100 }, title: { type: string, maxLength: 200 } } }
    output: { type: object, required: [number], properties: { number: { type: integer } } }
  - name: tool:github/create_release
    effect: E3
    sideEffect: full
    sandbox: isolated
    trust: trusted
    input: { type: object, required: [repo, tag], properties: { repo: { type: string, maxLength: 100 }, tag: { type: string, maxLength: 50 } } }
  - name: tool:github/delete_repo
    effect: E4
    sideEffect: full
    sandbox: isolated
    trust: trusted
    input: { type: object, required: [repo], properties: { repo: { type: string, maxLength: 100 } } }
  - name: tool:agent/write_note
    effect: E2
    sideEffect: write_limited
    sandbox: native
    trust: trusted
    input: { type: object, required: [text], properties: { text: { type: string, maxLength: 1000 } } }
  - name: tool:agent/run_shell
    effect: E4
    sideEffect: full
    sandbox: native
    input: { type: object, required: [command], properties: { command: { type: string, maxLength: 1000 } } }
${
  p.module === ""
    ? ""
    : `  - name: tool:calc/echo
    effect: E0
    sideEffect: read_only
    sandbox: restricted
    trust: trusted
    module: "${p.module}"
    limits: { gas: 50000000, memoryBytes: 16777216, outputBytes: 65536, timeMs: 2000 }
    input: { type: object, required: [value], properties: { value: { type: integer } } }
`
}models:
  - name: model:openai/stand-in
    price: { inputMicroUsdPerMTok: 250000, outputMicroUsdPerMTok: 2000000 }
toolsets:
  work: [tool:github/list_issues, tool:github/create_issue, tool:github/create_release, tool:github/delete_repo, tool:agent/write_note, tool:agent/run_shell${p.module === "" ? "" : ", tool:calc/echo"}]
profiles:
  - match: { serviceAccount: ${p.serviceAccount ?? "guard"} }
    toolsets: [work]
    models: [model:openai/stand-in]
    maxSideEffect: full
    budgets:
      session: { calls: 500, tokens: 5000000, costMicroUsd: 50000000 }
rules:
  - id: own-repos-only
    when: call.args.repo.startsWith("acme/")
    tools: [tool:github/list_issues, tool:github/create_issue]
    then: allow
  - id: releases-need-a-person
    tools: [tool:github/create_release]
    then: escalate
    approval: one-person
  - id: nothing-is-deleted
    tools: [tool:github/delete_repo]
    then: deny
  - id: notes
    tools: [tool:agent/write_note]
    then: allow
${p.module === "" ? "" : "  - id: sums\n    tools: [tool:calc/echo]\n    then: allow\n"}approvals:
  one-person: { approvers: ["${p.approver}"], quorum: 1, timelockSeconds: 0, holdSeconds: 0, expiresSeconds: 600 }
perimeter: { requireTls: false }
`;
