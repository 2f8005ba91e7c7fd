import * as z from 'zod/mini';

/** Schemas are read as data, by no code made for each: a program that reads a few of them starts sooner. Before the first is read. */
export function readSchemasWithoutCode(): void {
  z.config({ jitless: true });
}
