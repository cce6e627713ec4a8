// What administrators do while the server runs: the queue, models, settings, backups, the log of it all.
// Runs on a desktop and on a phone. Nothing here waits for an image to be half done: the queue is paused
// before anything is asked for, so what waits stays put while it is looked at.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Locator, Page } from '@playwright/test';
import { describe, expect, open, setUp, signIn, test } from '../fixtures';

const binary = resolve(process.env.ATELIER_BIN ?? '../target/release/atelier');

/** Asks for images through the API of the pages; the queue is held, so they wait. */
async function ask(page: Page, prompts: string[]): Promise<void> {
  for (const prompt of prompts) {
    const answer = await page.request.post('/api/generate-image', {
      headers: { prefer: 'respond-async' },
      data: { prompt, num_inference_steps: 2, width: 64, height: 64 },
    });
    expect(answer.status(), await answer.text()).toBe(202);
  }
}

/** The waiting jobs, in the order of the page. */
function waiting(page: Page): Locator {
  return page.getByRole('region', { name: 'Waiting' }).getByRole('listitem');
}

async function owners(page: Page): Promise<string[]> {
  return waiting(page).locator('strong').allTextContents();
}

async function fits(page: Page): Promise<void> {
  const wide = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  expect(wide, 'the page is as wide as the window').toBeLessThanOrEqual(0);
}

test('the queue is paused, moved about, emptied, drained', async ({ page, server, anotherPage, troubles, isMobile }) => {
  await setUp(page, server, 'ada');
  server.addUser('bob');
  await open(page, '/admin/queue');
  await expect(page.getByText('The queue is open.')).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(page.getByText('The queue is paused: what runs goes on')).toBeVisible();

  // Whoever waits is told why.
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  await ask(bobs, ['a secret of his', 'another', 'a third']);
  await open(bobs, '/');
  await expect(bobs.getByText('The queue is paused by an administrator.').first()).toBeVisible();

  // The page renews itself; it says whose, never what.
  await ask(page, ['one of hers', 'two of hers']);
  await expect(waiting(page)).toHaveCount(5);
  await expect(page.getByText('a secret of his')).toHaveCount(0);
  await expect(waiting(page).first()).toContainText('64×64 · 2 steps');
  await expect(waiting(page).first()).toContainText('place 1');
  await expect(waiting(page).first()).toContainText('starts when the queue goes on');
  await fits(page);

  // By keyboard: the last one goes first, then one back, and the focus stays with it.
  const before = await owners(page);
  const last = waiting(page).last();
  const front = last.getByRole('button', { name: /^To the front/ });
  const id = (await front.getAttribute('id'))!.replace('front-', '');
  await front.focus();
  await page.keyboard.press('Enter');
  const moved = waiting(page).filter({ has: page.locator(`#up-${id}`) });
  await expect(moved).toContainText('place 1');
  await expect(moved).toContainText('moved by an administrator');
  // What is moved counts as its owner's turn, so who comes next is the fair order's to say.
  await expect.poll(async () => (await owners(page))[0]).toBe(before[4]);
  expect([...(await owners(page))].sort()).toEqual([...before].sort());
  await moved.getByRole('button', { name: /^Down/ }).focus();
  await page.keyboard.press('Enter');
  await expect(moved).toContainText('place 2');
  await expect(page.locator(`#down-${id}`)).toBeFocused();
  await moved.getByRole('button', { name: /^Back to the fair order/ }).click();
  await expect(moved.getByText('moved by an administrator')).toHaveCount(0);

  // By dragging, where there is a mouse: what is dropped goes directly before where it is dropped.
  const third = waiting(page).nth(2);
  const dragged = (await third.getByRole('button', { name: /^Up/ }).getAttribute('id'))!.replace('up-', '');
  if (isMobile) await third.getByRole('button', { name: /^To the front/ }).click();
  else await third.dragTo(waiting(page).first());
  await expect(waiting(page).first().locator(`#up-${dragged}`)).toBeVisible();

  // Several at once, then all of one person.
  await waiting(page).nth(0).getByRole('checkbox').check();
  await waiting(page).nth(1).getByRole('checkbox').check();
  await page.getByRole('button', { name: 'Cancel the selected (2)' }).click();
  await expect(page.getByText('2 jobs are stopped.')).toBeVisible();
  await expect(waiting(page)).toHaveCount(3);
  await page.getByLabel('Who').selectOption('bob');
  await page.getByRole('button', { name: 'Filter' }).click();
  await expect(page).toHaveURL(/user=bob/);
  const left = await waiting(page).count();
  expect(new Set(await owners(page))).toEqual(new Set(left > 0 ? ['bob'] : []));
  await page.getByText('Cancel all of bob …').click();
  await page.getByRole('button', { name: 'Stop all of bob' }).click();
  await expect(waiting(page)).toHaveCount(0);
  await open(bobs, '/');
  await expect(bobs.getByText('An administrator cancelled it.').first()).toBeVisible();

  // Drained: what waits is made, what is new is refused, and it stays so over a restart.
  await open(page, '/admin/queue');
  await page.getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(page.getByText('The queue is drained')).toBeVisible({ timeout: 90_000 });
  troubles.allow(/console error: Failed to load resource: .* 503/);
  troubles.allow(/server log: .*503 Service Unavailable/);
  const refused = await bobs.request.post('/api/generate-image', { data: { prompt: 'x' } });
  expect(refused.status()).toBe(503);
  expect(refused.headers()['retry-after']).toBeTruthy();
  await describe(bobs, 'a red circle', { steps: 2 });
  await bobs.getByRole('button', { name: 'Generate' }).click();
  await expect(bobs.getByText('no new images are taken just now').first()).toBeVisible();
  await server.stop();
  troubles.allow(/console error: Failed to load resource: .*(ERR_|503)/);
  await server.start();
  await open(page, '/admin/queue');
  await expect(page.getByText('The queue is drained')).toBeVisible();
  await page.getByRole('button', { name: 'Take new images again' }).click();
  await expect(page.getByText('The queue is open.')).toBeVisible();
});

test('a model for administrators is in nobody else’s list', async ({ page, server, anotherPage, troubles }) => {
  await setUp(page, server, 'ada');
  server.addUser('bob');
  await open(page, '/admin/models');
  const card = page.locator('article.card', { has: page.getByRole('heading', { name: 'demo-refiner', exact: true }) });
  await card.getByLabel('Who may use demo-refiner', { exact: true }).selectOption('admin');
  const answered = page.waitForResponse((answer) => answer.url().includes('set_model_access'));
  await card.getByRole('button', { name: 'Set who may use demo-refiner' }).click();
  expect((await answered).status()).toBe(200);
  await open(page, '/admin/models');
  await expect(card.getByLabel('Who may use demo-refiner', { exact: true })).toHaveValue('admin');
  await fits(page);

  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  const names = async (who: Page) => {
    const models = (await (await who.request.get('/api/models')).json()) as { name: string }[];
    return models.map((model) => model.name);
  };
  expect(await names(bobs)).not.toContain('demo-refiner');
  expect(await names(page)).toContain('demo-refiner');
  const refused = await bobs.request.post('/api/generate-image', {
    data: { prompt: 'x', refiner: 'demo-refiner' },
  });
  expect(refused.status()).toBe(403);
  expect(await refused.text()).toContain('is not open to your role');
  troubles.allow(/console error: Failed to load resource: .* 403/);
});

test('settings hold at once, say what is wrong, and are set back', async ({ page, server, troubles }) => {
  server.settings.ATELIER_QUEUE_LIMIT = '50';
  await server.stop();
  await server.start();
  await setUp(page, server, 'ada');
  await open(page, '/admin/settings');
  await expect(page.getByText('--queue-limit 50')).toBeVisible();
  await expect(page.getByLabel('Waiting images in all', { exact: true })).toBeDisabled();

  await page.getByLabel('Name of this server', { exact: true }).fill('The blue house');
  await page.getByRole('button', { name: 'Save: Name of this server' }).click();
  await expect(page.getByText('Saved', { exact: true })).toBeVisible();
  await open(page, '/admin/settings');
  await expect(page.locator('.brand-name')).toHaveText('The blue house');
  await fits(page);

  // The browser's own check would keep a number out of its range; the server's words are wanted here.
  const most = page.getByLabel('Images in one request', { exact: true });
  await most.evaluate((input: HTMLInputElement) => input.removeAttribute('max'));
  troubles.allow(/console error: Failed to load resource: .* 422/);
  await most.fill('99');
  await page.getByRole('button', { name: 'Save: Images in one request' }).click();
  await expect(page.getByText('Give a whole number, 1 to 16.')).toBeVisible();
  await page.getByLabel('Images in one request', { exact: true }).fill('3');
  await page.getByRole('button', { name: 'Save: Images in one request' }).click();
  await expect(page.getByRole('button', { name: 'Set back: Images in one request' })).toBeVisible();
  const refused = await page.request.post('/api/generate-image', { data: { prompt: 'x', num_images: 4 } });
  expect(refused.status()).toBe(422);
  expect(await refused.text()).toContain('1 to 3');
  await page.getByRole('button', { name: 'Set back: Images in one request' }).click();
  await expect(page.getByRole('button', { name: 'Set back: Images in one request' })).toHaveCount(0);
  await expect(page.getByLabel('Images in one request', { exact: true })).toHaveValue('16');

  // All of it is in the log, which can be filtered.
  await page.getByRole('link', { name: 'Audit log' }).click();
  await page.getByLabel('About').selectOption('setting');
  await page.getByRole('button', { name: 'Filter' }).click();
  await expect(page.getByRole('row', { name: /site_name/ })).toContainText('The blue house');
  await expect(page.getByRole('row', { name: /max_batch/ })).toHaveCount(2);
});

test('a backup is made, taken away, put back and deleted', async ({ page, server }) => {
  await setUp(page, server, 'ada');
  await describe(page, 'a red circle on a white background', { steps: 2 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({ timeout: 60_000 });

  await open(page, '/admin/backups');
  await expect(page.getByText('There is none yet.')).toBeVisible();
  await page.getByRole('button', { name: 'Back up now' }).click();
  const row = page.getByRole('region', { name: 'On this server' }).getByRole('listitem');
  await expect(row).toContainText('1 image', { timeout: 60_000 });
  await expect(page.getByRole('button', { name: 'Back up now' })).toBeVisible();
  await fits(page);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    row.getByRole('link', { name: /^Download/ }).click(),
  ]);
  const file = await download.path();
  expect(readFileSync(file).includes('atelier-backup.json')).toBe(true);

  const home = mkdtempSync(join(tmpdir(), 'atelier-restored-'));
  try {
    const said = execFileSync(binary, ['restore', file, '--data-dir', home], { encoding: 'utf8' });
    expect(said).toContain('1 images and 1 files');
    expect(existsSync(join(home, 'atelier.db'))).toBe(true);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }

  await row.getByText('Delete …').click();
  await row.getByRole('button', { name: /for good$/ }).click();
  await expect(page.getByText('There is none yet.')).toBeVisible();
});

test('the administrator’s corner is found on every size', async ({ page, server }) => {
  await setUp(page, server, 'ada');
  await page.getByRole('link', { name: 'Admin', exact: true }).click();
  const nav = page.getByRole('navigation', { name: 'Administration' });
  for (const name of ['Models', 'Queue', 'People', 'Settings', 'Backups', 'Audit log', 'Overview']) {
    await nav.getByRole('link', { name, exact: true }).click();
    await expect(nav.getByRole('link', { name, exact: true })).toHaveAttribute('aria-current', 'page');
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    await fits(page);
  }
});
