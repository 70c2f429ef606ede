/**
 * Metrics of the process itself, under the names every Prometheus client uses. prom-client has collectors for these, but loading
 * them costs 2.5 MB of anonymous memory (they bring the OpenTelemetry API) and its default set arms a 10 ms timer for
 * event-loop lag, which would wake an idle sidecar a hundred times a second.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { MetricsRegistry, Sample } from './registry.ts';

/** Adds `process_*` and `nodejs_*` to a registry; they are read at each scrape. */
export function addProcessMetrics(registry: MetricsRegistry): void {
  registry.counter('process_cpu_seconds_total', 'CPU time of all threads, user and system', [], () => {
    const { user, system } = process.cpuUsage();
    return single((user + system) / 1e6);
  });
  registry.gauge('process_start_time_seconds', 'Start of the process, seconds since the epoch', [], () =>
    single(performance.timeOrigin / 1000),
  );
  registry.gauge('process_resident_memory_bytes', 'Resident memory', [], () => procStatus('VmRSS'));
  registry.gauge('process_virtual_memory_bytes', 'Address space', [], () => procStatus('VmSize'));
  registry.gauge('ferrule_process_anonymous_memory_bytes', 'Resident memory that no file backs', [], () =>
    procStatus('RssAnon'),
  );
  registry.gauge('process_open_fds', 'Open file descriptors', [], () =>
    // One less: the descriptor that reads the folder is in it.
    single(readdirSync('/proc/self/fd').length - 1),
  );
  registry.gauge('process_max_fds', 'Most file descriptors allowed', [], () => {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return limit === null ? [] : single(Number(limit[1]));
  });
  registry.gauge('nodejs_heap_size_used_bytes', 'V8 heap in use on the main thread', [], () =>
    single(process.memoryUsage().heapUsed),
  );
  registry.gauge('nodejs_external_memory_bytes', 'Memory outside the V8 heap on the main thread', [], () =>
    single(process.memoryUsage().external),
  );
  registry.gauge('nodejs_version_info', 'Version of Node.js', ['version'], () => [
    { labels: { version: process.version }, value: 1 },
  ]);
}

/** A line of /proc/self/status in bytes; nothing where the kernel does not print it. */
function procStatus(field: 'VmRSS' | 'VmSize' | 'RssAnon'): Sample[] {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return line === null ? [] : single(Number(line[1]) * 1024);
}

function single(value: number): Sample[] {
  return [{ labels: {}, value }];
}
