// Quotas, weights and usage: set by an administrator, met by a user, seen by both.
import { describe, expect, hydrated, open, setUp, signIn, test } from '../fixtures';
import type { Page } from '@playwright/test';

/** Asks for a small image and waits for it, or for the reason why not. */
async function ask(page: Page, prompt: string): Promise<void> {
  await open(page, '/');
  await describe(page, prompt, { steps: 2 });
  await page.getByRole('button', { name: 'Generate' }).click();
}

test('a quota is set, met, shown and lifted', async ({ page, server, anotherPage, troubles }) => {
  troubles.allow(/console error: Failed to load resource: .* (422|429|500)/);
  await setUp(page, server, 'ada');
  server.addUser('bob');
  const bobs = await anotherPage();
  await signIn(bobs, 'bob');
  // Nothing is limited at first, and nothing is said about it.
  await expect(bobs.locator('#quota-left')).toHaveCount(0);

  // Everybody's quota is on the page about people.
  await open(page, '/admin/people');
  const everybody = page.getByRole('region', { name: "Everybody's quota" });
  await everybody.getByLabel('Images a day').fill('2');
  await everybody.getByLabel('Device seconds a month').fill('36000');
  await everybody.getByRole('button', { name: "Set everybody's quota" }).click();
  await expect(everybody.getByText('Set. It holds for the next request.')).toBeVisible();

  await ask(bobs, 'a red circle on a white background');
  await expect(bobs.getByText('1 of 2 images left today')).toBeVisible({ timeout: 60_000 });
  await ask(bobs, 'a blue circle on a white background');
  await expect(bobs.getByText('0 of 2 images left today')).toBeVisible({ timeout: 60_000 });
  await expect(bobs.locator('#quota-left')).toContainText('There is more from');

  // The third is refused in words; nothing that was typed is lost.
  await ask(bobs, 'a green circle on a white background');
  await expect(bobs.getByText('Your quota of 2 images a day is used up.')).toBeVisible();
  await expect(bobs.getByText('Try again in')).toBeVisible();
  await expect(bobs.getByLabel('Prompt', { exact: true })).toHaveValue(/a green circle/);
  await open(bobs, '/account');
  const left = bobs.getByRole('region', { name: 'What is left of your quota' });
  await expect(left.getByText('0 of 2 images left today')).toBeVisible();
  await expect(left.getByText(/of 10 h 0 min of device time left this month/)).toBeVisible();

  // Limits of his own take their place, and he goes on.
  await open(page, '/admin/people');
  await page.getByRole('link', { name: 'bob', exact: true }).click();
  const his = page.getByRole('region', { name: 'Quota and share' });
  await expect(his.getByText(/Today 2 images/)).toBeVisible();
  await his.getByLabel('Images a day').fill('3');
  await his.getByRole('button', { name: 'Set their quota' }).click();
  await expect(his.getByText('These limits are their own.')).toBeVisible();
  await his.getByLabel('Weight').fill('2.5');
  await his.getByRole('button', { name: 'Set the weight' }).click();
  await expect(his.getByLabel('Weight')).toHaveValue('2.5');
  await his.getByLabel('Weight').fill('40');
  await his.getByRole('button', { name: 'Set the weight' }).click();
  await expect(his.getByText('Give a number from 0.1 to 10; 1 is usual.').first()).toBeVisible();
  await ask(bobs, 'a green circle on a white background');
  await expect(bobs.getByText('0 of 3 images left today')).toBeVisible({ timeout: 60_000 });

  // All of it is in the audit log.
  await open(page, '/admin/audit?act=quota');
  const acts = page.getByRole('region', { name: 'Acts' });
  for (const act of ['quota.everybody', 'quota.user', 'quota.weight']) {
    await expect(acts.getByText(act)).toBeVisible();
  }
});

test('usage, speed and space are plotted and can be read', async ({ page, server }) => {
  await setUp(page, server, 'ada');
  await open(page, '/admin/usage');
  await expect(page.getByText('Nothing was made in these days.')).toBeVisible();
  await ask(page, 'a red circle on a white background');
  await expect(page.getByRole('link', { name: "Open the image's page" })).toBeVisible({
    timeout: 60_000,
  });
  await open(page, '/admin');
  await page.getByRole('link', { name: 'Usage', exact: true }).click();
  await hydrated(page);
  await expect(page.getByRole('heading', { name: 'Usage' })).toBeVisible();
  await expect(page.getByRole('img', { name: /Images a day: 1 in all/ })).toBeVisible();
  await expect(page.getByRole('img', { name: /Device time a day: .* in all/ })).toBeVisible();
  await expect(page.getByRole('img', { name: /Seconds for a step of one megapixel/ })).toBeVisible();

  // The same in tables.
  await page.getByText('These days as a table').click();
  const days = page.getByRole('region', { name: 'Use by day' });
  await expect(days.getByRole('row')).toHaveCount(2);
  const byUser = page.getByRole('region', { name: 'By user' });
  await expect(byUser.getByRole('row', { name: /ada .*100 %.* 1 / }).first()).toBeVisible();
  await expect(page.getByText(/are free on the disk of/)).toBeVisible();

  // Range and user are in the address.
  await page.getByRole('link', { name: '365 days' }).click();
  await expect(page).toHaveURL(/days=365/);
  await expect(page.getByRole('link', { name: '365 days' })).toHaveAttribute('aria-current', 'true');
  await page.getByLabel('Whose').selectOption({ label: 'ada' });
  await page.getByRole('button', { name: 'Show' }).click();
  await expect(page.getByRole('heading', { name: 'What ada used, day by day' })).toBeVisible();
  await expect(page).toHaveURL(/days=365&user=\d+/);

  // What was used stays when the image goes.
  await open(page, '/gallery');
  await page.locator('.tile a').first().click();
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await expect(page.getByText('The image is in the trash.')).toBeVisible();
  await open(page, '/admin/usage?days=7');
  await expect(page.getByRole('img', { name: /Images a day: 1 in all/ })).toBeVisible();
  await expect(page.getByRole('region', { name: 'Storage' }).getByRole('row', { name: /ada/ })).toContainText('1 ·');
  // Nothing is wider than the screen.
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(wide).toBeLessThanOrEqual(0);
});
