/**
 * What is wrong with an RSA modulus that its size does not show, or undefined: a small factor, primes so close that
 * Fermat's method finds them, or the structure that Infineon's library gave its primes (ROCA, CVE-2017-15361). The
 * limits are the CA/Browser Forum's (BR §6.1.1.3) and Boulder's.
 */
export function rsaWeakness(modulus: bigint): string | undefined {
  const { smallPrimes, smallPrimeProduct, rocaPrimes } = (primes ??= findPrimes());
  const residue = modulus % smallPrimeProduct;
  if (smallPrimes.some((prime) => residue % BigInt(prime) === 0n)) return 'a small prime factor';
  if (rocaPrimes.every(({ prime, powers }) => powers.has(Number(residue % prime))))
    return 'the ROCA weakness';
  return factorsByFermat(modulus) ? 'two primes that are too close' : undefined;
}

/** True for the encodings of the eight Ed25519 points of small order, for which anyone can make signatures. */
export function isSmallOrderEd25519(key: Buffer): boolean {
  const y = Buffer.from(key);
  y[31] = (y[31] ?? 0) & 0x7f;
  return smallOrderPoints.has(y.toString('hex'));
}

/** y coordinates, little endian, sign bit cleared: orders 4, 1, 8, 8, 2 and the non-canonical forms of the first two. */
const smallOrderPoints = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);

/** Found when the first RSA key comes: whoever has none starts without. */
let primes: ReturnType<typeof findPrimes> | undefined;

function findPrimes() {
  /** BR §6.1.6: no factor smaller than 752. */
  const smallPrimes = primesBelow(752);
  const smallPrimeProduct = smallPrimes.reduce((product, prime) => product * BigInt(prime), 1n);
  /** A ROCA modulus is a power of 65537 modulo each of these; another one is so for all with chance 2^-27 or less. */
  const rocaPrimes = smallPrimes
    .filter((prime) => prime > 2 && prime <= 167)
    .map((prime) => ({ prime: BigInt(prime), powers: powersOf65537(prime) }));
  return { smallPrimes, smallPrimeProduct, rocaPrimes };
}

const fermatRounds = 110;

function factorsByFermat(modulus: bigint): boolean {
  let root = integerRoot(modulus);
  if (root * root < modulus) root += 1n;
  let square = root * root - modulus;
  for (let round = 0; round < fermatRounds; round++) {
    if (isSquare(square)) return true;
    square += 2n * root + 1n;
    root += 1n;
  }
  return false;
}

/** All but one in a hundred numbers are no square modulo one of these already, which saves their root. */
function isSquare(value: bigint): boolean {
  if (!squaresModulo256.has(Number(value & 255n))) return false;
  const residue = Number(value % 45045n);
  if (squaresModulo.some(({ modulus, squares }) => !squares.has(residue % modulus))) return false;
  const root = integerRoot(value);
  return root * root === value;
}

const squaresModulo256 = squaresOf(256);
const squaresModulo = [63, 65, 11].map((modulus) => ({ modulus, squares: squaresOf(modulus) }));

function squaresOf(modulus: number): ReadonlySet<number> {
  return new Set(Array.from({ length: modulus }, (_, i) => (i * i) % modulus));
}

/** Newton's method from above, so it falls until it is there. */
function integerRoot(value: bigint): bigint {
  if (value < 2n) return value;
  let root = 1n << BigInt(Math.ceil(value.toString(16).length * 2));
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

function primesBelow(limit: number): number[] {
  const primes: number[] = [];
  for (let n = 2; n < limit; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes;
}

function powersOf65537(prime: number): Set<number> {
  const powers = new Set<number>();
  for (let power = 1; !powers.has(power); power = (power * (65537 % prime)) % prime) powers.add(power);
  return powers;
}
