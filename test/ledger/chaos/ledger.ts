// `atoll ledger`, as a program of its own.
import { ledger } from "../../../cli/ledger.ts";

process.exitCode = await ledger(process.argv.slice(2), process);
