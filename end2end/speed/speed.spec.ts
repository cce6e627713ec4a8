// How soon a page is there and answers, on a slow machine behind a slow line: `make speed`. Prints a table,
// writes end2end/speed.json, and fails where a number is over its bar.
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { CDPSession, Page } from '@playwright/test';
import { expect, makeImages, setUp, signOut, test } from '../fixtures';

/** What every page must keep to. */
const BARS = { bytes: 450_000, interactive: 1500, shift: 0.02 };

/** Four times slower than this machine, 10 Mbit/s, 40 ms there and back. */
const LINE = { offline: false, latency: 40, downloadThroughput: 10e6 / 8, uploadThroughput: 10e6 / 8 };
const SLOWER = 4;

/** How often a page is opened; the middle one counts. */
const RUNS = 5;

interface Figures {
  page: string;
  /** WebAssembly and JavaScript over the wire. */
  bytes: number;
  firstPaint: number;
  largestPaint: number;
  interactive: number;
  /** What long tasks took beyond 50 ms each, until the page was interactive. */
  blocked: number;
  shift: number;
}

async function once(page: Page, path: string): Promise<Omit<Figures, 'page'>> {
  const client: CDPSession = await page.context().newCDPSession(page);
  await client.send('Network.enable');
  await client.send('Network.setCacheDisabled', { cacheDisabled: true });
  await client.send('Network.emulateNetworkConditions', LINE);
  await client.send('Emulation.setCPUThrottlingRate', { rate: SLOWER });
  const wanted = new Map<string, string>();
  const sizes = new Map<string, number>();
  client.on('Network.responseReceived', ({ requestId, response }) => {
    if (/\.(wasm|js)$/.test(new URL(response.url).pathname)) wanted.set(requestId, response.url);
  });
  client.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    const url = wanted.get(requestId);
    if (url) sizes.set(url, Math.max(sizes.get(url) ?? 0, encodedDataLength));
  });
  await page.goto(path);
  await expect(page.locator('html')).toHaveAttribute('data-hydrated', '', { timeout: 60_000 });
  // What still shifts or paints shows within a second.
  await page.waitForTimeout(1000);
  const seen = await page.evaluate(() => {
    const kept = (window as unknown as { __speed: Record<string, number> & { tasks: number[][] } }).__speed;
    const blocked = kept.tasks
      .filter(([start]) => start < kept.interactive)
      .reduce((sum, [, length]) => sum + Math.max(0, length - 50), 0);
    return {
      firstPaint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
      largestPaint: kept.largest,
      interactive: kept.interactive,
      blocked,
      shift: kept.shift,
    };
  });
  await client.detach();
  return { bytes: [...sizes.values()].reduce((sum, size) => sum + size, 0), ...seen };
}

/** The middle of several figures. */
const middle = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

test('pages are there soon', async ({ page, server }) => {
  test.setTimeout(600_000);
  await page.addInitScript(() => {
    const kept = { largest: 0, shift: 0, interactive: 0, tasks: [] as number[][] };
    (window as unknown as { __speed: typeof kept }).__speed = kept;
    const watch = (type: string, take: (entry: PerformanceEntry) => void) =>
      new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, buffered: true });
    watch('largest-contentful-paint', (entry) => (kept.largest = entry.startTime));
    watch('longtask', (entry) => kept.tasks.push([entry.startTime, entry.duration]));
    watch('layout-shift', (entry) => {
      const shift = entry as PerformanceEntry & { value: number; hadRecentInput: boolean };
      if (!shift.hadRecentInput) kept.shift += shift.value;
    });
    new MutationObserver((_, observer) => {
      if (document.documentElement?.hasAttribute('data-hydrated')) {
        kept.interactive = performance.now();
        observer.disconnect();
      }
    }).observe(document, { attributes: true, subtree: true, childList: true });
  });
  await setUp(page, server);
  await makeImages(page, Array.from({ length: 12 }, (_, n) => `a red circle, number ${n}`), 2);

  const figures: Figures[] = [];
  const measure = async (name: string, path: string) => {
    const runs: Omit<Figures, 'page'>[] = [];
    for (let run = 0; run < RUNS; run++) runs.push(await once(page, path));
    const of = (what: keyof Omit<Figures, 'page'>) => middle(runs.map((run) => run[what]));
    figures.push({
      page: name,
      bytes: of('bytes'),
      firstPaint: of('firstPaint'),
      largestPaint: of('largestPaint'),
      interactive: of('interactive'),
      blocked: of('blocked'),
      shift: of('shift'),
    });
  };
  await measure('studio', '/');
  await measure('gallery', '/gallery');
  await signOut(page);
  await measure('sign-in', '/sign-in');

  const row = (cells: (string | number)[]) => cells.map((cell) => String(cell).padStart(14)).join('');
  console.log(row(['page', 'wasm+js kB', 'first paint', 'largest paint', 'interactive', 'blocked', 'shift']));
  for (const f of figures) {
    const ms = (value: number) => `${Math.round(value)} ms`;
    console.log(
      row([f.page, (f.bytes / 1000).toFixed(0), ms(f.firstPaint), ms(f.largestPaint), ms(f.interactive), ms(f.blocked), f.shift.toFixed(4)]),
    );
  }
  writeFileSync(
    resolve(__dirname, '../speed.json'),
    `${JSON.stringify({ at: new Date().toISOString(), line: LINE, slower: SLOWER, runs: RUNS, bars: BARS, figures }, null, 2)}\n`,
  );
  for (const f of figures) {
    expect.soft(f.bytes, `${f.page}: bytes`).toBeLessThanOrEqual(BARS.bytes);
    expect.soft(f.interactive, `${f.page}: interactive`).toBeGreaterThan(0);
    expect.soft(f.interactive, `${f.page}: interactive`).toBeLessThan(BARS.interactive);
    expect.soft(f.shift, `${f.page}: layout shift`).toBeLessThan(BARS.shift);
  }
});
