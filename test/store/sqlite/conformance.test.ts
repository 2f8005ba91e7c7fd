import { storeConformance } from '../conformance.ts';
import { sqliteHarness } from './state.ts';

storeConformance('SQLite', sqliteHarness);
