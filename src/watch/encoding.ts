/** UTF-8 of one server-sent event (HTML Living Standard §9.2.6). Without an id the last one goes on counting. */
export function encodeEvent(type: string, data: object, id?: number): Buffer {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  return Buffer.from(`${idLine}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** Says nothing, so that both ends and all between them know that the other is there. */
export const heartbeat = Buffer.from(':\n\n');

/** From here on a watcher has seen everything up to the event of this id. */
export function seenUpTo(id: number): Buffer {
  return Buffer.from(`id: ${id}\n\n`);
}

/** Within how many milliseconds a watcher that was cut off should come back, at a random moment of them. */
export function comeBackWithin(ms: number): Buffer {
  return Buffer.from(`retry: ${Math.round(ms)}\n\n`);
}
