//! The queue as a whole, settings and backups, as fixed answers.

use super::House;
use async_trait::async_trait;
use atelier_app::account::*;
use atelier_app::admin::*;
use atelier_app::backend::*;
use atelier_app::error::AppError;
use atelier_app::studio::{JobId, JobState};

const NOW: i64 = 1_795_538_049_000;

#[async_trait]
impl Operations for House {
    async fn queue_report(&self, _: &Viewer, filter: QueueFilter) -> Answer<QueueReport> {
        let entry = |id: &str, state: JobState| QueueEntry {
            id: JobId(id.into()),
            user_id: UserId(2),
            user: self.prompt.clone(),
            state,
            model: self.prompt.clone(),
            size: "128×96".into(),
            step: 3,
            steps: 20,
            attempt: 2,
            created_at: NOW - 60_000,
            started_at: (state != JobState::Queued).then_some(NOW - 30_000),
            finished_at: state.is_final().then_some(NOW - 5_000),
            position: (state == JobState::Queued).then_some(0),
            placed: state == JobState::Queued,
            starts_in_s: (state == JobState::Queued).then_some(75.0),
            takes_s: Some(30.0),
            left_s: (state == JobState::Running).then_some(12.0),
            ..QueueEntry::default()
        };
        let rows = [
            entry("job-1", JobState::Running),
            entry("job-2", JobState::Queued),
            entry("job-3", JobState::Failed),
        ];
        let rows: Vec<QueueEntry> = rows
            .into_iter()
            .filter(|row| !self.prompt.is_empty() && filter.shows(row.state))
            .collect();
        let hold = || Hold {
            by: self.prompt.clone(),
            since: NOW - 60_000,
        };
        Ok(QueueReport {
            paused: (!self.prompt.is_empty()).then(hold),
            closed: self.prompt.is_empty().then(hold),
            queued: u32::from(!rows.is_empty()),
            running: u32::from(!rows.is_empty()),
            left_out: 7,
            people: vec![(UserId(2), self.prompt.clone())],
            hours: vec![
                HourCount {
                    at: NOW - 3_600_000,
                    done: 3,
                    failed: 1,
                    cancelled: 0,
                },
                HourCount::default(),
            ],
            now: NOW,
            rows,
        })
    }

    async fn set_queue_hold(&self, _: &Viewer, hold: QueueHold, on: bool) -> Answer<()> {
        self.note(format!("{} {on}", hold.as_str()));
        Ok(())
    }

    async fn cancel_jobs(&self, _: &Viewer, which: CancelWhich) -> Answer<u32> {
        if which == CancelWhich::Jobs(Vec::new()) {
            return Err(AppError::invalid("ids", "Select at least one job first."));
        }
        self.note(format!("cancel {which:?}"));
        Ok(1)
    }

    async fn move_job(&self, _: &Viewer, id: &JobId, to: MoveTo) -> Answer<()> {
        self.note(format!("move {} {to:?}", id.0));
        Ok(())
    }

    async fn settings(&self, _: &Viewer) -> Answer<Vec<SettingRow>> {
        let row = |name: SettingName| SettingRow {
            name,
            value: "5".into(),
            default: "20".into(),
            kind: SettingKind::Number { least: 1, most: 50 },
            changed_at: Some(NOW),
            fixed_by: None,
        };
        Ok(SettingName::ALL
            .into_iter()
            .map(|name| match name {
                SettingName::SiteName => SettingRow {
                    value: self.prompt.clone(),
                    kind: SettingKind::Text { longest: 32 },
                    ..row(name)
                },
                SettingName::DefaultModel => SettingRow {
                    value: self.prompt.clone(),
                    kind: SettingKind::Choice(vec!["demo".into(), self.prompt.clone()]),
                    fixed_by: Some(format!("--default-model {}", self.prompt)),
                    ..row(name)
                },
                SettingName::ResultCache => SettingRow {
                    value: "on".into(),
                    default: "on".into(),
                    kind: SettingKind::Choice(vec!["on".into(), "off".into()]),
                    changed_at: None,
                    ..row(name)
                },
                _ => row(name),
            })
            .collect())
    }

    async fn change_setting(
        &self,
        _: &Viewer,
        name: SettingName,
        value: Option<String>,
    ) -> Answer<()> {
        if value.as_deref() == Some("0") {
            return Err(AppError::invalid(
                name.as_str(),
                "Give a whole number, 1 to 50.",
            ));
        }
        self.note(format!("set {} {value:?}", name.as_str()));
        Ok(())
    }

    async fn backups(&self, _: &Viewer) -> Answer<BackupsReport> {
        let row = BackupRow {
            name: "atelier-20261124-163409.tar".into(),
            at: NOW,
            bytes: 5 << 30,
            images: Some(41),
            by_itself: true,
        };
        Ok(BackupsReport {
            backups: if self.prompt.is_empty() {
                Vec::new()
            } else {
                vec![row]
            },
            running: self.prompt.is_empty().then(|| BackupProgress {
                began_at: NOW,
                copies_database: false,
                done: 1 << 20,
                total: 1 << 30,
            }),
            trouble: Some(self.prompt.clone()).filter(|words| !words.is_empty()),
            folder: "data/backups".into(),
            free_bytes: Some(1 << 40),
            every_hours: Some(24),
            kept: 7,
        })
    }

    async fn begin_backup(&self, _: &Viewer) -> Answer<()> {
        self.note("begin a backup".into());
        Ok(())
    }

    async fn stop_backup(&self, _: &Viewer) -> Answer<()> {
        self.note("stop the backup".into());
        Ok(())
    }

    async fn delete_backup(&self, _: &Viewer, name: &str) -> Answer<()> {
        self.note(format!("delete {name}"));
        Ok(())
    }
}
