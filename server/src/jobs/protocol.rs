//! What server and worker say to each other: one JSON object a line, orders down the worker's
//! standard input, news up its standard output. The job table is the truth; losing a line loses
//! time or a preview, never a job.

use atelier_app::account::UserId;
use atelier_app::studio::{JobId, Rung};
use serde::{Deserialize, Serialize};

/// From server to worker. The end of standard input means that the server is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// A job may be waiting.
    Wake,
    /// Stop this job, if it is the running one.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// What has changed about devices.
    Device {
        /// What to write down as the reason for not using a GPU; `None` where nothing is amiss.
        fallback_reason: Option<String>,
        /// Seconds after which a model that nobody uses is let go; 0 = never.
        idle_release_s: u32,
        /// Devices that come first: only jobs that have left all of them are taken.
        after: Vec<String>,
    },
    /// Take no more jobs; end when the running one is done.
    Drain,
    /// Put the running job back at the next step and end.
    Release,
}

/// From worker to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    /// It runs and waits for jobs.
    Idle,
    /// It has a job.
    Claimed {
        /// The job.
        job: JobId,
        /// The job's owner.
        user: UserId,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The job goes on.
    Progress {
        /// The job.
        job: JobId,
        /// What it does now.
        phase: String,
        /// Finished steps.
        step: u32,
        /// Seconds since denoising began; 0 before.
        denoising_s: f64,
        /// The latents as a `data:` address.
        preview: Option<String>,
    },
    /// The device failed the job, which goes down a rung.
    Rung {
        /// The job.
        job: JobId,
        /// What happened and what is changed; its row has it already.
        rung: Rung,
        /// Whether that counts as the device's failure.
        counts: bool,
        /// Whether this process cannot be trusted any more and ends.
        replaced: bool,
    },
    /// The job ended or was given back; its row says how.
    Ended {
        /// The job.
        job: JobId,
    },
}

/// One line, its end included.
pub fn line<T: Serialize>(message: &T) -> String {
    // Plain enums of strings and numbers always serialise.
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_reads_back() {
        let order = Order::Device {
            fallback_reason: Some("two\nlines".into()),
            idle_release_s: 0,
            after: vec!["cuda:0".into()],
        };
        let text = line(&order);
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }
}
