/** package.json `engines`; what is older is out of support, or lacks what the addons need. */
const oldest = [22, 19] as const;

/** Why this Node cannot run Vouch, as a line for stderr; undefined where it can. Runs on those that it refuses. */
export function nodeProblem(version = process.versions.node): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return undefined;
  return `vouch: needs Node ${oldest.join('.')} or newer, this is ${version}\n`;
}
