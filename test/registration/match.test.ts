import { expect, test } from 'vitest';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { matchEntry } from '../../src/registration/match.ts';
import { entry } from '../store/fixture.ts';

const shown = [{ type: 'join_token', value: 't_1' }];
const parentId = parseSpiffeId('spiffe://example.test/host/a');
const among = (...found: RegistrationEntry[]) => ({ entriesMatching: () => found });

test('evidence never yields an entry that an agent asks for', () => {
  const own = entry({ selectors: shown });
  const workload = entry({ selectors: shown, parentId });
  expect(() => matchEntry(among(workload), shown, [])).toThrow(
    expect.objectContaining({ code: 'denied-no-entry' }),
  );
  expect(matchEntry(among(workload, own), shown, [workload.spiffeId])).toBe(own);
});
