// Loaded into an agent whose memory is measured: SIGUSR2 leaves in its heap only what is in use.
process.on('SIGUSR2', () => globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' }));
