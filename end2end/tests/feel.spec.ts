// How it feels: shortcuts and the command palette, where the focus goes, colours, a lost server, and how much
// a page fetches before it is alive.
import type { Page } from '@playwright/test';
import { expect, hydrated, makeImages, open, setUp, signOut, test } from '../fixtures';

const palette = (page: Page) => page.getByRole('dialog', { name: 'Command palette' });
const shortcuts = (page: Page) => page.getByRole('dialog', { name: 'Keyboard shortcuts' });

/** WebAssembly and scripts of a page, as they come over the wire. */
async function fetched(page: Page, go: () => Promise<void>): Promise<{ bytes: number; files: string[] }> {
  const client = await page.context().newCDPSession(page);
  await client.send('Network.enable');
  await client.send('Network.setCacheDisabled', { cacheDisabled: true });
  const named = new Map<string, { path: string; encoding: string }>();
  const sizes = new Map<string, number>();
  client.on('Network.responseReceived', ({ requestId, response }) => {
    const { pathname } = new URL(response.url);
    if (/\.(wasm|js)$/.test(pathname)) {
      const encoding = Object.entries(response.headers).find(([name]) => name.toLowerCase() === 'content-encoding');
      named.set(requestId, { path: pathname, encoding: encoding?.[1] ?? 'none' });
    }
  });
  client.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => sizes.set(requestId, encodedDataLength));
  await go();
  await page.waitForLoadState('networkidle').catch(() => undefined);
  // A file that was asked for early and used later counts once.
  const byPath = new Map<string, number>();
  for (const [id, { path, encoding }] of named) {
    expect(encoding, `${path} comes compressed`).toBe('br');
    byPath.set(path, Math.max(byPath.get(path) ?? 0, sizes.get(id) ?? 0));
  }
  await client.detach();
  return {
    bytes: [...byPath.values()].reduce((sum, size) => sum + size, 0),
    files: [...byPath].map(([path, size]) => `${path.split('/').at(-1)} ${size}`),
  };
}

/** Bytes of WebAssembly and scripts that a page may fetch. The goal is 450 kB; this is where it stands. */
const MOST = 850_000;

test('no page fetches more than its share of WebAssembly and scripts', async ({ page, server }) => {
  await setUp(page, server);
  const [image] = await makeImages(page, ['a red circle'], 2);
  for (const path of ['/', '/gallery', `/gallery/${image}`, '/account', '/admin', '/admin/people']) {
    const { bytes, files } = await fetched(page, () => open(page, path));
    expect(files.length, `${path} fetches its parts: ${files}`).toBeGreaterThan(1);
    expect(bytes, `${path}: ${files.join(', ')}`).toBeLessThanOrEqual(MOST);
  }
  await signOut(page);
  const { bytes, files } = await fetched(page, () => open(page, '/sign-in'));
  expect(bytes, `/sign-in: ${files.join(', ')}`).toBeLessThanOrEqual(MOST);
});

test('the interface is kept by the browser under a name that changes with it', async ({ page, server }) => {
  await setUp(page, server);
  const script = await page.locator('link[rel=modulepreload]').first().getAttribute('href');
  expect(script).toMatch(/^\/pkg-[0-9a-f]{12}\//);
  const kept = await page.request.get(script!);
  expect(kept.headers()['cache-control']).toBe('public, max-age=31536000, immutable');
  const other = await page.request.get(script!.replace(/pkg-[0-9a-f]{4}/, 'pkg-0000'));
  expect(other.status(), 'another version is not answered with this one').toBe(404);
});

test('? shows the shortcuts, but not while typing', async ({ page, server }) => {
  await setUp(page, server);
  await page.getByLabel('Prompt', { exact: true }).fill('what');
  await page.keyboard.press('?');
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue('what?');
  await expect(shortcuts(page)).toHaveCount(0);
  await page.getByRole('link', { name: 'Studio', exact: true }).focus();
  await page.keyboard.press('?');
  await expect(shortcuts(page)).toBeVisible();
  await expect(shortcuts(page).getByText('Search pages, actions and images')).toBeVisible();
  await expect(shortcuts(page).getByRole('heading', { level: 3 }).first()).toHaveText('In the studio');
  await page.keyboard.press('Escape');
  await expect(shortcuts(page)).toHaveCount(0);
  await expect(page.getByRole('link', { name: 'Studio', exact: true })).toBeFocused();
});

test('the palette goes to pages, does what the page offers, and finds images', async ({ page, server }) => {
  await setUp(page, server);
  await makeImages(page, ['a red circle', 'a blue square'], 2);
  await page.keyboard.press('Control+k');
  const field = palette(page).getByRole('combobox');
  await expect(field).toBeFocused();
  await field.fill('coll');
  const first = palette(page).getByRole('option').first();
  await expect(first).toContainText('Collections');
  await expect(first).toHaveAttribute('aria-selected', 'true');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/\/collections$/);
  // The new page's heading has the focus, so that readers say it and Tab goes on from there.
  await expect(page.getByRole('heading', { level: 1 })).toBeFocused();
  await expect(page).toHaveTitle(/Collections/);

  // An image by its prompt, with the arrows.
  await page.keyboard.press('Control+k');
  await field.fill('blue');
  const image = palette(page).getByRole('option', { name: /a blue square/ });
  await expect(image).toBeVisible();
  for (let step = 0; step < 40 && (await image.getAttribute('aria-selected')) !== 'true'; step++) {
    await page.keyboard.press('ArrowDown');
  }
  const active = await field.getAttribute('aria-activedescendant');
  expect(await image.getAttribute('id')).toBe(active);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'a blue square' })).toBeVisible();

  // What the page itself offers.
  await page.keyboard.press('Control+k');
  await field.fill('favourite');
  await palette(page).getByRole('option', { name: /^Favourite\s*On this page/ }).click();
  await expect(page.getByRole('button', { name: 'Favourite', exact: true })).toHaveAttribute('aria-pressed', 'true');

  await page.keyboard.press('Control+k');
  await field.fill('theme dark');
  await page.keyboard.press('Enter');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.keyboard.press('Control+k');
  await field.fill('as the system');
  await page.keyboard.press('Enter');
  await expect(page.locator('html')).not.toHaveAttribute('data-theme');

  await page.keyboard.press('Control+k');
  await field.fill('sign out');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
});

test('a finger reaches the palette and the shortcuts through the menu', async ({ page, server }) => {
  await setUp(page, server);
  const menu = page.locator('#user-menu > summary');
  await menu.click();
  await page.getByRole('button', { name: 'Command palette' }).locator('visible=true').last().click();
  await expect(palette(page)).toBeVisible();
  await palette(page).getByRole('option', { name: /^Gallery/ }).click();
  await expect(page).toHaveURL(/\/gallery$/);
  await menu.click();
  await page.locator('#user-menu').getByRole('button', { name: 'Keyboard shortcuts' }).click();
  await expect(shortcuts(page)).toBeVisible();
  await shortcuts(page).getByRole('button', { name: 'Close' }).click();
  await expect(shortcuts(page)).toHaveCount(0);
  await menu.click();
  await page.getByRole('group', { name: 'Theme' }).getByRole('button', { name: 'Dark' }).click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
});

test('a lost server is said quietly, and so is nothing once it is back', async ({ page, server, troubles }) => {
  troubles.allow(/net::ERR_/);
  await setUp(page, server);
  await open(page, '/gallery');
  await server.stop();
  const words = page.getByText('Lost the server; trying again …');
  await expect(words).toBeVisible({ timeout: 30_000 });
  await server.start();
  await expect(words).toBeHidden({ timeout: 30_000 });
});

test('nothing moves for those who want it still', async ({ page, server }) => {
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await setUp(page, server);
  const longest = await page.evaluate(() =>
    Math.max(
      ...[...document.querySelectorAll('*')].flatMap((element) => {
        const { transitionDuration, animationDuration } = getComputedStyle(element);
        return `${transitionDuration},${animationDuration}`.split(',').map(parseFloat);
      }),
    ),
  );
  expect(longest).toBeLessThanOrEqual(0.001);
});

test('a page whose part cannot be fetched stays as the server made it', async ({ page, server, troubles }) => {
  troubles.allow(/Failed to load resource|Failed to fetch|could not be fetched|preload|ERR_FAILED/);
  await setUp(page, server);
  // The rooms, not the part that all pages share.
  await page.route(/\/pkg-[0-9a-f]+\/(?!atelier).*\.wasm$/, (route) => route.abort());
  await page.goto('/gallery');
  await expect(page.getByRole('heading', { name: 'Your images will hang here' })).toBeVisible();
  await expect(page.locator('html')).not.toHaveAttribute('data-hydrated');
  await page.unroute(/\/pkg-[0-9a-f]+\/(?!atelier).*\.wasm$/);
  await page.reload();
  await hydrated(page);
});
