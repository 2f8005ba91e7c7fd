// billing: an HTTPS service that only its allowed clients may call. Started with `vouch exec`, which sets VOUCH_DIR:
//   vouch exec --join-file billing.join --out ./billing-identity -- node examples/billing/main.mjs
// Prints one JSON object a line: where it listens, whom it answered, whom it refused and why.
import https from 'node:https';
import { openVouch } from 'vouch/client';

const say = (event) => console.log(JSON.stringify({ service: 'billing', ...event }));

const vouch = await openVouch({ onEvent: ({ type, ...rest }) => say({ event: type, ...rest }) });

const server = https.createServer(vouch.serverOptions(), (request, response) => {
  // Whoever gets here has shown a certificate of this trust domain that is allowed and not revoked.
  const caller = vouch.peerOf(request.socket)?.spiffeId;
  say({ event: 'answered', caller });
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ invoice: 42, for: caller }));
});
vouch.secure(server);

server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  say({ event: 'listening', url: `https://127.0.0.1:${server.address().port}`, spiffeId: vouch.spiffeId });
});

process.on('SIGTERM', () => {
  vouch.close();
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
