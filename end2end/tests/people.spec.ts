// Who may see what: accounts, other people, administrators.
import { describe, expect, open, PASSWORD, setUp, signIn, signOut, test } from '../fixtures';

test('another user sees nothing of an image', async ({ page, server, anotherPage, troubles }) => {
  await setUp(page, server, 'ada');
  const prompt = 'an orange diamond on a grey background';
  await describe(page, prompt, { steps: 5 });
  await page.getByRole('button', { name: 'Generate' }).click();
  const done = page.getByRole('link', { name: "Open the image's page" });
  await expect(done).toBeVisible({ timeout: 60_000 });
  const imagePage = await done.getAttribute('href');
  const file = await done.getByRole('img').getAttribute('src');
  expect(imagePage).toMatch(/^\/gallery\/.+/);
  expect((await page.request.get(file!)).status()).toBe(200);

  server.addUser('bob');
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  await expect(bobs.getByText(prompt)).toHaveCount(0);
  await open(bobs, '/gallery');
  await expect(bobs.getByRole('heading', { name: 'Your images will hang here' })).toBeVisible();
  // Knowing the addresses helps nobody.
  expect((await bobs.request.get(file!)).status()).toBe(404);
  troubles.allow(/console error: Failed to load resource: .* 40[34]/);
  const answer = await bobs.goto(imagePage!);
  expect(answer!.status()).toBe(404);
  await expect(bobs.getByRole('heading', { name: 'There is nothing here' })).toBeVisible();
  // Nor is the machine a member's business.
  const admin = await bobs.goto('/admin');
  expect(admin!.status()).toBe(403);
  await expect(bobs.getByText('This page is for administrators')).toBeVisible();
  await expect(bobs.getByRole('link', { name: 'Admin', exact: true })).toHaveCount(0);

  // And nothing to nobody.
  await signOut(bobs);
  expect((await bobs.request.get(file!)).status()).not.toBe(200);
});

test('the admin pages tell device, queue and users', async ({ page, server }) => {
  await setUp(page, server);
  await page.getByRole('link', { name: 'Admin', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Devices' })).toBeVisible();
  await expect(page.locator('.decision')).toHaveText(/cpu/i);
  await expect(page.getByText('In use').first()).toBeVisible();
  await expect(page.getByText('Nobody has asked for an image yet.')).toBeVisible();

  // An image shows in the queue's record, without its prompt.
  await page.getByRole('link', { name: 'Studio', exact: true }).click();
  const prompt = 'a pink circle on a green background';
  await describe(page, prompt, { steps: 5 });
  await page.getByRole('button', { name: 'Generate' }).click();
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 60_000,
  });
  await page.getByRole('link', { name: 'Admin', exact: true }).click();
  const queue = page.getByRole('region', { name: 'Queue' }).getByRole('row', { name: /ada/ });
  await expect(queue).toContainText('done');
  await expect(page.getByText(prompt)).toHaveCount(0);

  // A new user can sign in with the password given here.
  await page.getByRole('link', { name: 'People', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Invitations' })).toBeVisible();
  await page.getByLabel('Name', { exact: true }).fill('grace');
  await page.getByLabel('First password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Make the user' }).click();
  await expect(page.getByText('can sign in now')).toBeVisible();
  await expect(page.getByRole('rowheader', { name: 'grace' })).toBeVisible();
  await signOut(page);
  await signIn(page, 'grace');
});

test('a wrong password opens nothing and says so', async ({ page, server, troubles }) => {
  await setUp(page, server);
  await signOut(page);
  troubles.allow(/console error: Failed to load resource: .* 4\d\d/);
  await open(page, '/sign-in');
  await page.getByLabel('Name').fill('ada');
  await page.getByLabel('Password').fill('not the password at all');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert').filter({ hasText: /\S/ }).first()).toBeVisible();
  await expect(page).toHaveURL(/\/sign-in/);
  await page.goto('/gallery');
  await expect(page).toHaveURL(/\/sign-in/);
});

test('a wrong setup code makes no administrator', async ({ page, server, troubles }) => {
  troubles.allow(/console error: Failed to load resource: .* 4\d\d/);
  await open(page, '/setup');
  await page.getByLabel('Setup code').fill('wrong-wrong-wrong');
  await page.getByLabel('Name').fill('mallory');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Make the administrator' }).click();
  await expect(page.getByRole('alert').filter({ hasText: /\S/ }).first()).toBeVisible();
  await page.goto('/');
  await expect(page, 'the server still waits').toHaveURL(/\/setup$/);
  await setUp(page, server);
});
