// Without JavaScript, and without a mouse.
import { describe, expect, open, PASSWORD, setUp, signOut, test } from '../fixtures';

test.describe('without JavaScript', () => {
  test.use({ javaScriptEnabled: false });

  test('one can set up, sign out, sign in and open the gallery', async ({ page, server }) => {
    await page.goto('/');
    await expect(page).toHaveURL(/\/setup$/);
    await page.getByLabel('Setup code').fill(server.setupCode);
    await page.getByLabel('Name').fill('ada');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Make the administrator' }).click();
    await expect(page.getByRole('button', { name: 'Generate' })).toBeVisible();
    await page.locator('#user-menu > summary').click();
    await page.getByRole('button', { name: 'Sign out', exact: true }).click();
    await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();

    await page.getByLabel('Name').fill('ada');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('link', { name: 'Gallery', exact: true }).click();
    await expect(page.getByRole('heading', { name: 'Your images will hang here' })).toBeVisible();
  });

  test('the gallery shows images and their pages', async ({ page, server, browser }) => {
    // Made with JavaScript on, in another browser of the same person.
    const context = await browser.newContext({ baseURL: server.url, javaScriptEnabled: true });
    const alive = await context.newPage();
    await setUp(alive, server);
    const prompt = 'a yellow triangle on a purple background';
    await describe(alive, prompt, { steps: 5, seed: 5 });
    await alive.getByRole('button', { name: 'Generate' }).click();
    await expect(alive.getByRole('link', { name: "Open the image's page" })).toBeVisible({
      timeout: 60_000,
    });
    await context.close();

    await page.goto('/sign-in?next=/gallery');
    await page.getByLabel('Name').fill('ada');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await expect(page).toHaveURL(/\/gallery$/);
    await page.getByRole('img', { name: prompt }).click();
    await expect(page.getByRole('heading', { name: prompt })).toBeVisible();
    await expect(page.getByRole('link', { name: 'Download' })).toBeVisible();
    await expect(page.locator('dt:text-is("Seed") + dd').first()).toHaveText('5');
  });
});

test('one can sign in with the keyboard alone', async ({ page, server }) => {
  await setUp(page, server);
  await signOut(page);
  await open(page, '/sign-in');
  // Tab from the top of the page until the name has the focus: how many stops come first is
  // the design's affair, that they are few is not.
  const name = page.getByLabel('Name');
  for (let stops = 0; stops < 8; stops++) {
    await page.keyboard.press('Tab');
    if (await name.evaluate((field) => field === document.activeElement)) break;
  }
  await expect(name).toBeFocused();
  // The focus can be seen.
  const ring = await name.evaluate((field) => {
    const style = getComputedStyle(field);
    return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  });
  expect(ring, 'the focused field is marked').toBe(true);
  await page.keyboard.type('ada');
  await page.keyboard.press('Tab');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Generate' })).toBeVisible();

  // And ask for an image.
  await page.getByLabel('Prompt', { exact: true }).focus();
  await page.keyboard.type('a red square on a white background');
  await page.keyboard.press('Control+Enter');
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 60_000,
  });
});
