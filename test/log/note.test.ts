import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { emptyRoot, Frontier, hashLeaf } from '../../src/log/merkle.ts';
import {
  assembleNote,
  checkpointBody,
  noteKeyHash,
  noteMaxBytes,
  openCheckpoint,
  parseVerifierKey,
  verifierKey,
} from '../../src/log/note.ts';
import { newLogKey, signedCheckpoint, signedNote } from './log-keys.ts';
import { refusal } from './refusal.ts';

const integrityLog = refusal('integrity-log');
const refusedAs = (text: string) => refusal('integrity-log', text);
const origin = 'example.org/vouch-log';
const log = newLogKey(origin);
const other = newLogKey('witness.example/w1');
const root = Buffer.alloc(32, 9);
const root64 = root.toString('base64');
const good = signedCheckpoint([log], 42, root);

describe('notes of other implementations', () => {
  // Made by transparency-dev/tessera (testdata/log): leaves one … fivten, one checkpoint after each.
  const vkey = 'example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx';
  const words = 'one two three four five six seven eit nain ten ileven twelf threeten fourten fivten'.split(
    ' ',
  );
  const name = 'example.com/log/testdata';
  const notes = [
    `${name}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— ${name} M9e0lhxJACzE1KoUdqKuPa+9p6R7dSW8BlEvrg/noo8FkGg6PbJoRNOcdjqjOq89wVvTA60eubCc4oufo5BvIVEgtQc=\n`,
    `${name}\n7\nIrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U=\n\n— ${name} M9e0luA5JhTRUki/BBQD0QNiH6AEJ2pdtsA5CQjqJErViuuKrN6513RCTL2640wXJv0dCed3neRGI6dMzBq9uANf2Qc=\n`,
    `${name}\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n\n— ${name} M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=\n`,
  ];

  it('opens the checkpoints of a Tessera log and computes its roots', () => {
    for (const note of notes) {
      const checkpoint = openCheckpoint(note, [parseVerifierKey(vkey)], name);
      const frontier = Frontier.empty();
      for (const word of words.slice(0, checkpoint.treeSize)) frontier.append(hashLeaf(Buffer.from(word)));
      expect(checkpoint).toEqual({ origin: name, treeSize: frontier.size, rootHash: frontier.root(), note });
    }
  });

  it('opens an ECDSA checkpoint of Rekor as far as our rule for origins', () => {
    const rekor =
      'rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=';
    const note =
      'Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n\n— rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk=\n';
    const keys = [parseVerifierKey(rekor)];
    expect(() => openCheckpoint(note, keys)).toThrow(refusedAs('not signed by a known key of its log'));
    expect(() => openCheckpoint(note.replace('798034', '798035'), keys)).toThrow(
      refusedAs('wrong signature'),
    );
  });

  it('reads the verifier keys that others publish', () => {
    for (const [vkey, algorithm] of [
      ['PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW', 'ed25519'],
      ['sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8', 'ed25519'],
      [
        'pixel6_transparency_log+91c16e30+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8=',
        'ecdsa-p256',
      ],
    ] as const) {
      const key = parseVerifierKey(vkey);
      expect(key.algorithm).toBe(algorithm);
      expect(verifierKey(key)).toBe(vkey);
    }
    const key = parseVerifierKey('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
    const text =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const signature = Buffer.from(
      'x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=',
      'base64',
    );
    expect(signature.subarray(0, 4)).toEqual(noteKeyHash(key));
    const publicKey = createPublicKey({ key: key.publicKeySpki, format: 'der', type: 'spki' });
    expect(verify(null, Buffer.from(text), publicKey, signature.subarray(4))).toBe(true);
    expect(assembleNote(text, [{ key, signature: signature.subarray(4) }])).toBe(
      `${text}\n— PeterNeumann ${signature.toString('base64')}\n`,
    );
  });
});

describe('a checkpoint', () => {
  it.each(['ed25519', 'ecdsa-p256'] as const)('signed with %s opens', (algorithm) => {
    const signer = newLogKey(origin, algorithm);
    const note = signedCheckpoint([signer], 42, root);
    expect(openCheckpoint(note, [signer.key], origin)).toEqual({
      origin,
      treeSize: 42,
      rootHash: root,
      note,
    });
    const parsed = parseVerifierKey(verifierKey(signer.key));
    expect(parsed).toEqual(signer.key);
    expect(openCheckpoint(note, [parsed]).treeSize).toBe(42);
  });

  it('has the text of C2SP tlog-checkpoint', () => {
    expect(checkpointBody({ origin, treeSize: 42, rootHash: root })).toBe(`${origin}\n42\n${root64}\n`);
    expect(good).toMatch(
      /^example\.org\/vouch-log\n42\n[A-Za-z0-9+/]{43}=\n\n— example\.org\/vouch-log [A-Za-z0-9+/]{90}[A-Za-z0-9+/=]{2}\n$/,
    );
    expect(() => checkpointBody({ origin: 'a\nb', treeSize: 1, rootHash: root })).toThrow(/assertion/);
    expect(() => checkpointBody({ origin: '', treeSize: 1, rootHash: root })).toThrow(/assertion/);
    expect(() => checkpointBody({ origin, treeSize: -1, rootHash: root })).toThrow(/assertion/);
    expect(() => checkpointBody({ origin, treeSize: 1, rootHash: root.subarray(1) })).toThrow(/assertion/);
  });

  it('opens at the largest size and for the empty tree, there only with the empty root', () => {
    const size = Number.MAX_SAFE_INTEGER;
    expect(openCheckpoint(signedCheckpoint([log], size, root), [log.key]).treeSize).toBe(size);
    expect(openCheckpoint(signedCheckpoint([log], 0, emptyRoot), [log.key]).rootHash).toEqual(emptyRoot);
    expect(() => openCheckpoint(signedCheckpoint([log], 0, root), [log.key])).toThrow(
      refusedAs('empty tree'),
    );
  });

  it.each([
    ['no extension lines', `${origin}\n42\n${root64}\nmore\n`],
    ['no fourth empty line', `${origin}\n42\n${root64}\n\n`],
    ['no empty origin', `\n42\n${root64}\n`],
    ['no missing root', `${origin}\n42\n`],
    ['no leading zero', `${origin}\n042\n${root64}\n`],
    ['no sign', `${origin}\n+42\n${root64}\n`],
    ['no negative size', `${origin}\n-1\n${root64}\n`],
    ['no exponent', `${origin}\n4e1\n${root64}\n`],
    ['no hex size', `${origin}\n0x2a\n${root64}\n`],
    ['no fraction', `${origin}\n42.0\n${root64}\n`],
    ['no white space', `${origin}\n 42\n${root64}\n`],
    ['no empty size', `${origin}\n\n${root64}\n`],
    ['no size past 2^53', `${origin}\n9007199254740992\n${root64}\n`],
    ['no size of 40 digits', `${origin}\n${'9'.repeat(40)}\n${root64}\n`],
    ['no digits of other scripts', `${origin}\n４２\n${root64}\n`],
    ['no short root', `${origin}\n42\n${root.subarray(1).toString('base64')}\n`],
    ['no long root', `${origin}\n42\n${Buffer.alloc(33).toString('base64')}\n`],
    ['no base64url', `${origin}\n42\n${Buffer.alloc(32, 0xff).toString('base64url')}=\n`],
    ['no unpadded root', `${origin}\n42\n${root64.slice(0, -1)}\n`],
    ['no stray bits in the root', `${origin}\n42\n${root64.slice(0, -2)}l=\n`],
    ['no carriage return', `${origin}\r\n42\r\n${root64}\r\n`],
    ['no tab', `${origin}\t\n42\n${root64}\n`],
    ['no zero byte', `${origin}\0\n42\n${root64}\n`],
  ])('takes %s, although signed', (_, body) => {
    expect(() => openCheckpoint(signedNote([log], body), [log.key])).toThrow(integrityLog);
  });

  it.each([
    ['nothing', ''],
    ['no signature', `${origin}\n42\n${root64}\n`],
    ['an empty signature block', `${origin}\n42\n${root64}\n\n`],
    ['no final newline', good.slice(0, -1)],
    ['an empty line at the end', `${good}\n`],
    ['a line after the signature', `${good}x\n`],
    ['a carriage return', good.replaceAll('\n', '\r\n')],
    ['a carriage return in the signature line', `${good.slice(0, -1)}\r\n`],
    ['a hyphen for the dash', good.replace('—', '-')],
    ['an en dash', good.replace('—', '–')],
    ['no dash', good.replace('— ', '')],
    ['two spaces', good.replace('— ', '—  ')],
    ['a space after the signature', `${good.slice(0, -1)} \n`],
    ['a second word', `${good.slice(0, -1)} x\n`],
    ['an unpadded signature', good.replace(/=*\n$/, '\n')],
    ['a signature in base64url', good.replace(/ ([^ ]+)\n$/, ' --__\n')],
    ['four bytes only', good.replace(/ ([^ ]+)\n$/, ' AAAAAA==\n')],
    ['no blank line', good.replace('\n\n', '\n')],
    ['a byte order mark', `\ufeff${good}`],
    ['the other lines first', good.split('\n').toReversed().join('\n')],
  ])('is refused with %s', (_, note) => {
    expect(note).not.toBe(good);
    expect(() => openCheckpoint(note, [log.key])).toThrow(integrityLog);
  });

  it('is refused when it is no Unicode text', () => {
    expect(() => openCheckpoint(good.replace('vouch', '\ud800'), [log.key])).toThrow(
      refusedAs('not a signed note'),
    );
  });

  it('is refused with any byte of it changed', () => {
    const signatureAt = good.lastIndexOf(' ') + 1;
    for (let at = 0; at < good.length - 1; at++) {
      const changed = good[at] === 'A' ? 'B' : 'A';
      const note = good.slice(0, at) + changed + good.slice(at + 1);
      expect(
        () => openCheckpoint(note, [log.key], origin),
        `byte ${at}, signature at ${signatureAt}`,
      ).toThrow(integrityLog);
    }
  });

  it('is refused when it is another log’s, or signed by another key, or by none', () => {
    expect(() => openCheckpoint(good, [log.key], 'example.org/other')).toThrow(refusedAs('another log'));
    expect(() => openCheckpoint(good, [other.key])).toThrow(refusedAs('not signed by a known key'));
    expect(() => openCheckpoint(good, [])).toThrow(refusedAs('not signed by a known key'));
    expect(() => openCheckpoint(good, [newLogKey(origin).key])).toThrow(
      refusedAs('not signed by a known key'),
    );
  });

  it('is refused when a known key of another log signed it', () => {
    const body = checkpointBody({ origin, treeSize: 42, rootHash: root });
    expect(() => openCheckpoint(signedNote([other], body), [log.key, other.key])).toThrow(
      refusedAs('not signed by a known key of its log'),
    );
  });

  it('is refused with the signature of another text under the right name and hash', () => {
    const body = checkpointBody({ origin, treeSize: 43, rootHash: root });
    const note = assembleNote(body, [
      { key: log.key, signature: log.sign(checkpointBody({ origin, treeSize: 42, rootHash: root })) },
    ]);
    expect(() => openCheckpoint(note, [log.key])).toThrow(refusedAs('wrong signature'));
    const empty = assembleNote(body, [{ key: log.key, signature: Buffer.alloc(64) }]);
    expect(() => openCheckpoint(empty, [log.key])).toThrow(refusedAs('wrong signature'));
    const long = assembleNote(body, [
      { key: log.key, signature: Buffer.concat([log.sign(body), Buffer.alloc(1)]) },
    ]);
    expect(() => openCheckpoint(long, [log.key])).toThrow(refusedAs('wrong signature'));
  });

  it('ignores unknown keys beside its own, also under its own name', () => {
    const impostor = newLogKey(origin);
    for (const keys of [
      [log, other],
      [other, log],
      [impostor, log],
    ]) {
      const body = checkpointBody({ origin, treeSize: 42, rootHash: root });
      expect(openCheckpoint(signedNote(keys, body), [log.key]).treeSize).toBe(42);
    }
  });

  it('is refused when one of two known keys did not sign what stands there', () => {
    const body = checkpointBody({ origin, treeSize: 42, rootHash: root });
    const broken = assembleNote(body, [
      { key: log.key, signature: log.sign(body) },
      { key: other.key, signature: other.sign('else\n') },
    ]);
    expect(() => openCheckpoint(broken, [log.key, other.key])).toThrow(refusedAs('wrong signature'));
    expect(openCheckpoint(broken, [log.key]).treeSize).toBe(42);
  });

  it('is refused with two signatures by one key', () => {
    expect(() => openCheckpoint(signedCheckpoint([log, log], 42, root), [log.key])).toThrow(
      refusedAs('two signatures'),
    );
  });

  it('takes 16 signatures and more, not hundreds, and is bounded in size', () => {
    const body = checkpointBody({ origin, treeSize: 42, rootHash: root });
    const stranger = { key: other.key, signature: Buffer.alloc(5000) };
    const own = { key: log.key, signature: log.sign(body) };
    expect(
      openCheckpoint(assembleNote(body, [...Array.from({ length: 15 }, () => stranger), own]), [log.key])
        .treeSize,
    ).toBe(42);
    const many = Array.from({ length: 64 }, () => ({ ...stranger, signature: Buffer.alloc(64) }));
    expect(() => openCheckpoint(assembleNote(body, [...many, own]), [log.key])).toThrow(
      refusedAs('more than 64'),
    );
    const huge = assembleNote(body, [own, { ...stranger, signature: Buffer.alloc(noteMaxBytes) }]);
    expect(() => openCheckpoint(huge, [log.key])).toThrow(refusedAs('not a signed note'));
    expect(() => openCheckpoint('\n'.repeat(50_000_000), [log.key])).toThrow(integrityLog);
    expect(() => openCheckpoint('\n'.repeat(noteMaxBytes), [log.key])).toThrow(integrityLog);
  });
});

it('refuses a malformed log key wherever it comes from', () => {
  const spki = log.key.publicKeySpki;
  const ecdsa = newLogKey(origin, 'ecdsa-p256').key;
  const offCurve = Buffer.concat([
    ecdsa.publicKeySpki.subarray(0, 90),
    Buffer.from([(ecdsa.publicKeySpki[90] as number) ^ 1]),
  ]);
  for (const publicKeySpki of [
    Buffer.alloc(0),
    spki.subarray(0, 43),
    Buffer.concat([spki, Buffer.alloc(1)]),
    ecdsa.publicKeySpki,
  ])
    expect(() => openCheckpoint(good, [{ ...log.key, publicKeySpki }])).toThrow(refusedAs('one encoding'));
  expect(() => openCheckpoint(good, [{ ...ecdsa, publicKeySpki: offCurve }])).toThrow(
    refusedAs('not a valid public key'),
  );
});

describe('a verifier key', () => {
  const vkey = verifierKey(log.key);
  const spki = log.key.publicKeySpki;
  const named = (type: number, material: Buffer) => {
    const encoded = Buffer.concat([Buffer.from([type]), material]).toString('base64');
    return vkey.replace(/[^+]*$/, '').replace(/\+.*/, `+${vkey.split('+')[1]}+${encoded}`);
  };

  it.each([
    ['nothing', ''],
    ['no name', `+${vkey.split('+').slice(1).join('+')}`],
    ['a space in the name', vkey.replace('example', 'exa mple')],
    ['another name', vkey.replace('example', 'Example')],
    ['another hash', vkey.replace(/\+[0-9a-f]/, (found) => (found === '+0' ? '+1' : '+0'))],
    ['an upper-case hash', vkey.replace(/\+[0-9a-f]{8}\+/, '+ABCDEF01+')],
    ['no base64', `${vkey.split('+').slice(0, 2).join('+')}+`],
    ['white space around', ` ${vkey}`],
    ['a newline', `${vkey}\n`],
    ['a short key', named(1, spki.subarray(-31))],
    ['a long key', named(1, Buffer.concat([spki.subarray(-32), Buffer.alloc(1)]))],
    ['a witness type', named(4, spki.subarray(-32))],
    ['an unknown type', named(0xff, spki.subarray(-32))],
    ['an Ed25519 SPKI as ECDSA', named(2, spki)],
    ['a very long one', `${vkey}${'A'.repeat(100_000)}`],
  ])('is refused with %s', (_, text) => {
    expect(() => parseVerifierKey(text)).toThrow(integrityLog);
  });

  it('is refused for other curves and for points off the curve', () => {
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({
      format: 'der',
      type: 'spki',
    });
    expect(() => verifierKeyOf(p384)).toThrow(integrityLog);
    const p256 = newLogKey(origin, 'ecdsa-p256').key.publicKeySpki;
    const off = Buffer.from(p256);
    off[90] = (off[90] as number) ^ 1;
    expect(
      parseVerifierKey(verifierKey({ name: origin, algorithm: 'ecdsa-p256', publicKeySpki: p256 }))
        .publicKeySpki,
    ).toEqual(p256);
    expect(() => verifierKeyOf(off)).toThrow(refusedAs('not a valid public key'));
    const compressed = Buffer.concat([
      Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
      Buffer.from([2]),
      p256.subarray(27, 59),
    ]);
    expect(() => verifierKeyOf(compressed)).toThrow(integrityLog);
  });

  function verifierKeyOf(publicKeySpki: Buffer) {
    return parseVerifierKey(verifierKey({ name: origin, algorithm: 'ecdsa-p256', publicKeySpki }));
  }
});
