// A program's way in: a token made on the account page, an image asked for with it.
import { expect, open, setUp, test } from '../fixtures';

test('a token makes an image that is in the gallery, until it is revoked', async ({
  page,
  server,
  playwright,
}) => {
  await setUp(page, server);
  await open(page, '/account');
  await page.getByLabel('Name of the new token').fill('a script');
  await page.getByRole('button', { name: 'Make a token' }).click();
  const secret = (await page.locator('#token-secret').textContent())!;
  expect(secret.length).toBeGreaterThan(20);
  // It is shown once.
  await open(page, '/account');
  await expect(page.getByText('a script', { exact: true })).toBeVisible();
  await expect(page.getByText(secret)).toHaveCount(0);

  // A program has no cookies.
  const program = await playwright.request.newContext({ baseURL: server.url });
  const prompt = 'a black square on an orange background';
  const ask = () =>
    program.post('/api/generate-image', {
      headers: { authorization: `Bearer ${secret}` },
      data: { prompt, negative_prompt: '', num_inference_steps: 5 },
      timeout: 60_000,
    });
  const made = await ask();
  expect(made.status(), await made.text().catch(() => '')).toBe(200);
  expect(made.headers()['content-type']).toBe('image/png');
  expect((await made.body()).subarray(1, 4).toString()).toBe('PNG');
  const nobody = await program.post('/api/generate-image', { data: { prompt } });
  expect(nobody.status()).toBe(401);

  await open(page, '/gallery');
  await expect(page.getByRole('img', { name: prompt })).toBeVisible();

  await open(page, '/account');
  await page.getByRole('button', { name: 'Revoke the token a script' }).click();
  await expect(page.getByText('No tokens yet.')).toBeVisible();
  expect((await ask()).status()).toBe(401);
  await program.dispose();
});
