/** The daemon's build has this in a file of its own: an agent without a configuration file does not load it. */
export { parse } from 'yaml';
