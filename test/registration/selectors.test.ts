import { expect, test } from 'vitest';
import { selectorText } from '../../src/core/registration.ts';
import { workloadSelector } from '../../src/registration/selectors.ts';

test.each([
  'unix:uid:0',
  'unix:uid:4294967294',
  'unix:user:orders',
  'unix:user:EXAMPLE\\domain users',
  'unix:gid:1000',
  'unix:group:www-data',
  'unix:supplementary_gid:27',
  'unix:supplementary_group:ssl',
  'unix:path:/usr/bin/orders',
  'unix:path:/opt/a:b/...c/x y',
  `unix:sha256:${'0a'.repeat(32)}`,
])('%s is a selector and prints as it was given', (text) => {
  expect(selectorText(workloadSelector(text))).toBe(text);
  expect(workloadSelector(text).type).toBe('unix');
});

test.each([
  ['', /such as unix:uid:1000/],
  ['uid:1000', /use unix:KIND:VALUE/],
  ['join_token:t_0123456789abcdef', /no selector of workloads/],
  ['unix:pid:1', /with one of uid, user/],
  ['unix:constructor:1', /with one of uid, user/],
  ['Unix:uid:1', /no selector/],
  ['unix:uid', /takes a number/],
  ['unix:uid:', /takes a number/],
  ['unix:uid:01', /leading zeros/],
  ['unix:uid:-1', /takes a number/],
  ['unix:uid:1 ', /takes a number/],
  ['unix:uid:4294967295', /takes a number/],
  ['unix:uid:root', /takes a number/],
  ['unix:user:', /takes a name/],
  ['unix:user:a:b', /without colon/],
  ['unix:user:a\n', /takes a name/],
  ['unix:user:\ud800', /takes a name/],
  ['unix:path:usr/bin/x', /absolute path/],
  ['unix:path:/', /absolute path/],
  ['unix:path:/usr//bin', /absolute path/],
  ['unix:path:/usr/../bin', /absolute path/],
  ['unix:path:/usr/.', /absolute path/],
  ['unix:path:/usr/bin/', /absolute path/],
  ['unix:path:/a\0b', /absolute path/],
  [`unix:path:/${'a'.repeat(4096)}`, /absolute path/],
  [`unix:sha256:${'0A'.repeat(32)}`, /lower-case/],
  [`unix:sha256:${'0a'.repeat(31)}`, /64 lower-case/],
])('%j is refused with what to write', (text, why) => {
  expect(() => workloadSelector(text)).toThrow(
    expect.objectContaining({ code: 'request-malformed', message: expect.stringMatching(why) as unknown }),
  );
});
