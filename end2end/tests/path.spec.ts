// The whole path of a person: an empty server, the first account, a prompt, the image appearing,
// the gallery. Runs on a desktop and on a phone.
import { readFileSync } from 'node:fs';
import { describe, expect, hydrated, open, openAdvanced, setUp, signOut, test } from '../fixtures';

test('from an empty server to an image in the gallery', async ({ page, server }) => {
  await page.goto('/');
  await expect(page).toHaveURL(/\/setup$/);
  await setUp(page, server);

  const prompt = 'a red circle on a blue background';
  await describe(page, prompt, { steps: 40, seed: 7 });

  // Every word of the progress line is collected, so that steps which pass quickly are seen too.
  await page.evaluate(() => {
    const words: string[] = [];
    (window as unknown as { __words: string[] }).__words = words;
    new MutationObserver(() => {
      const now = document.querySelector('.underway-phase')?.textContent;
      if (now && now !== words.at(-1)) words.push(now);
      if (document.querySelector('.frame-preview')) words.push('preview');
    }).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
    });
  });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('progressbar')).toBeVisible();

  const result = page.getByRole('link', { name: "Open the image's page" }).getByRole('img');
  await expect(result).toBeVisible({ timeout: 60_000 });
  const words = await page.evaluate(() => (window as unknown as { __words: string[] }).__words);
  const steps = words
    .map((word) => /^Step (\d+) of 40$/.exec(word))
    .filter((found) => found !== null)
    .map((found) => Number(found[1]));
  expect(steps.length, `steps were shown: ${words}`).toBeGreaterThan(3);
  expect(steps, 'steps only go up').toEqual([...steps].sort((a, b) => a - b));
  expect(words, 'the unfinished image was shown').toContain('preview');
  // The image has arrived, not only its frame.
  await expect
    .poll(() => result.evaluate((image: HTMLImageElement) => image.complete && image.naturalWidth))
    .toBe(128);

  // The gallery has it, with everything that made it.
  await page.getByRole('link', { name: 'Gallery', exact: true }).click();
  await expect(page).toHaveURL(/\/gallery$/);
  await expect(page.getByText('1 image', { exact: true })).toBeVisible();
  await page.getByRole('img', { name: prompt }).click();
  await expect(page.getByRole('heading', { name: prompt })).toBeVisible();
  const facts = page.locator('dl.facts').first();
  for (const [name, value] of [
    ['Steps', '40'],
    ['Seed', '7'],
    ['Size', '128 × 128'],
    ['Model', 'demo'],
  ]) {
    await expect(facts.locator(`dt:text-is("${name}") + dd`)).toHaveText(value);
  }

  // The file says what made it, too.
  const downloading = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Download' }).click();
  const file = await (await downloading).path();
  const bytes = readFileSync(file);
  expect(bytes.subarray(0, 8).toString('hex'), 'a PNG').toBe('89504e470d0a1a0a');
  const text = bytes.toString('latin1');
  expect(text).toContain('parameters\0');
  expect(text).toContain(prompt);
  expect(text).toContain('Seed: 7');

  // The same settings again: the form is filled with them.
  await page.getByRole('link', { name: 'Use these settings' }).click();
  await expect(page.getByLabel('Prompt', { exact: true })).toHaveValue(prompt);
  await openAdvanced(page);
  await expect(page.getByLabel('Steps')).toHaveValue('40');
  await expect(page.getByRole('textbox', { name: 'Seed' })).toHaveValue('7');

  await signOut(page);
  // What was mine to see is behind the door again.
  await page.goto('/gallery');
  await expect(page).toHaveURL(/\/sign-in/);
});

test('a reload in mid-run changes nothing', async ({ page, server }) => {
  await setUp(page, server);
  await describe(page, 'a green square on a yellow background', { steps: 150, seed: 3 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/, { timeout: 30_000 });
  await page.reload();
  // Server-rendered: the running job is there before the page comes alive, and goes on after.
  await expect(page.locator('.underway-phase')).toBeVisible();
  await hydrated(page);
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/);
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 60_000,
  });
  await open(page, '/gallery');
  await expect(page.getByText('1 image', { exact: true })).toBeVisible();
});

test('a running image can be cancelled, and leaves nothing behind', async ({ page, server }) => {
  await setUp(page, server);
  await describe(page, 'a white star on a black background', { steps: 150 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/, { timeout: 30_000 });
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Cancelled' })).toBeVisible();

  // The worker is free again: the next image is made, and it is the only one.
  await describe(page, 'a purple triangle on a white background', { steps: 5 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 60_000,
  });
  await open(page, '/gallery');
  await expect(page.getByText('1 image', { exact: true })).toBeVisible();
  await expect(page.getByRole('img', { name: 'a purple triangle on a white background' })).toBeVisible();
});
