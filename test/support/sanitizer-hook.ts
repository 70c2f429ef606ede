/** Loaded before a sanitized program: the library is for this process, not for the programs it starts. */

delete process.env.LD_PRELOAD;
