// What is promised to survive, survives: the server killed in mid-image.
import { describe, expect, open, setUp, test } from '../fixtures';

test('a server killed in mid-image makes exactly one image', async ({ page, server, troubles }) => {
  await setUp(page, server);
  const prompt = 'a blue star on a white background';
  await describe(page, prompt, { steps: 150, seed: 11 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.locator('.underway-phase')).toHaveText(/^Step \d+ of 150$/, { timeout: 30_000 });

  // The browser rightly complains about a server that is gone.
  troubles.allow(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_NETWORK_CHANGED/);
  troubles.allow(/Failed to fetch/);
  await server.stop('SIGKILL');
  await server.start();

  await open(page, '/');
  await expect(page.getByRole('img', { name: prompt }).first()).toBeVisible({ timeout: 100_000 });
  await open(page, '/gallery');
  await expect(page.getByText('1 image', { exact: true })).toBeVisible();
});
