// The least that an HTTPS answer costs: bare express, which answers a body with itself and padding up to a given size.
import https from 'node:https';
import express from 'express';

process.once('disconnect', () => process.exit(0));
process.once('message', ({ cert, key, responseBytes }) => {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  app.post('/', express.raw({ type: () => true }), (request, response) => {
    response.send(Buffer.concat([request.body], responseBytes));
  });
  const server = https.createServer({ cert, key, minVersion: 'TLSv1.3' }, app);
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
});
