/** Runs every stale step: dependencies, test runner, engine, `dist/`. One process at a time per checkout. */
export function bootstrap(): Promise<void>;

/**
 * Builds one variant of the native engine when its inputs changed.
 * @returns the absolute path of the addon
 */
export function buildNative(variant?: 'release' | 'asan'): Promise<string>;
