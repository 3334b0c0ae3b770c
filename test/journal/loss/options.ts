// Small segments and frequent snapshots, so that a loss meets all of a journal's files.
export const JOURNAL = {
  podUid: "pod",
  segmentBytes: 48 << 10,
  checkpointNodes: 25,
  checkpointMs: 3_600_000,
  snapshotRecords: 60,
};
