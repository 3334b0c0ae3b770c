// The script that every pack carries, always the same: a pack cannot bring code of its own.

export const RUN_SH = `#!/bin/sh
# Decides every recorded call again: sh replay/run.sh PACK
exec atoll replay "$1"
`;
