// Credentials of the stand-ins: they open nothing outside the trial.
export const MODEL_KEY = "sk-trial-0123456789abcdefghijklmnop";
export const GITHUB_TOKEN = "ghp_trial0123456789abcdefghijklmnopqrstuvw";
