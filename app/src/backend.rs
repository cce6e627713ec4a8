//! The port: everything a page may ask of the server. `server` implements it; pages and their
//! server functions know nothing else, so an SQL edit rebuilds no view.
//!
//! One closure in the server provides three things as leptos context for pages, server functions
//! and the fallback alike: a [`Backend`], a [`Client`], and an `Option<Viewer>`.

use crate::account::{
    Credentials, InvitationOffer, NewToken, Role, Scope, SessionSummary, TokenSummary,
    TwoStepSetup, TwoStepState, UserId, Viewer,
};
use crate::admin::{
    AuditFilter, AuditPage, BackupsReport, CancelWhich, DeviceChoice, DevicesReport, Leaving,
    LookPage, MadeLink, ModelAct, ModelsReport, MoveTo, NewFetch, NewInvitation, PeopleData,
    PersonData, QueueFilter, QueueHold, QueueReport, QueueRow, SettingName, SettingRow, UserRow,
    VitalsReport,
};
use crate::error::AppError;
use crate::gallery::{
    Collection, CollectionAct, Facets, GalleryPage, ImageAct, ImageDetail, ImageId, ImageQuery,
    NewShareLink, ShareLink, SharedImage, Trash,
};
use crate::studio::{
    AddOn, DeviceBadge, Estimate, GenerationRequest, ImportedStyles, JobId, JobView, ModelSummary,
    OwnPreset, OwnStyle, PastPrompt, PromptTokens, Shelf,
};
use async_trait::async_trait;
use leptos::prelude::use_context;
use std::sync::Arc;

/// What every method answers.
pub type Answer<T> = Result<T, AppError>;

/// Where a request came from, as far as the server can tell.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The address, after trusted proxies.
    pub address: String,
    /// The `User-Agent`, shortened to 200 characters.
    pub user_agent: String,
    /// The session cookie's secret, where one came along and is alive.
    pub session: Option<SessionSecret>,
    /// The secret of whoever gave the right password and owes the code.
    pub step: Option<SessionSecret>,
}

/// A session's secret as the cookie carries it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(pub String);

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// A success that changes the cookie.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who signed in.
    pub viewer: Viewer,
    /// The value of the `Set-Cookie` header to answer with.
    pub set_cookie: String,
}

/// What a right password opens.
#[derive(Clone, Debug)]
pub enum Entered {
    /// The door.
    In(SignedIn),
    /// The second step: a code is needed, and this cookie says for whom.
    CodeNeeded {
        /// The value of the `Set-Cookie` header to answer with.
        set_cookie: String,
    },
}

/// Accounts, sessions and tokens.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Whether the server is empty and waits for its first administrator.
    async fn needs_setup(&self) -> Answer<bool>;
    /// Makes the first administrator; `code` is the one-time code from the log.
    async fn create_first_admin(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Answer<SignedIn>;
    /// What an invitation offers; `code` is the secret part of its link.
    async fn invitation(&self, code: &str) -> Answer<InvitationOffer>;
    /// Makes the account that an invitation offers, and signs it in.
    async fn accept_invitation(
        &self,
        code: &str,
        credentials: Credentials,
        client: &Client,
    ) -> Answer<SignedIn>;
    /// Whether people may ask for an account.
    async fn may_sign_up(&self) -> Answer<bool>;
    /// Asks for an account, which then waits for an administrator.
    async fn sign_up(&self, credentials: Credentials, client: &Client) -> Answer<()>;
    /// Opens a session. A wrong name and a wrong password are the same error, at the same speed.
    async fn sign_in(&self, credentials: Credentials, client: &Client) -> Answer<Entered>;
    /// The second step: a code from an app, or a recovery code.
    async fn enter_code(&self, code: &str, client: &Client) -> Answer<SignedIn>;
    /// Whose password the link behind a code sets.
    async fn reset_offer(&self, code: &str) -> Answer<String>;
    /// Sets a password by a link that an administrator made; ends the user's sessions.
    async fn reset_password_by_link(
        &self,
        code: &str,
        password: &str,
        client: &Client,
    ) -> Answer<()>;
    /// Ends the asking session; answers the `Set-Cookie` value that clears the cookie.
    async fn sign_out(&self, client: &Client) -> Answer<String>;
    /// Gives the viewer another sign-in name.
    async fn change_name(&self, viewer: &Viewer, name: &str) -> Answer<()>;
    /// Changes the password; every other session ends, the asking one gets a new cookie.
    async fn change_password(
        &self,
        viewer: &Viewer,
        current: &str,
        new: &str,
        client: &Client,
    ) -> Answer<SignedIn>;
    /// The viewer's signed-in browsers, newest first.
    async fn list_sessions(&self, viewer: &Viewer, client: &Client) -> Answer<Vec<SessionSummary>>;
    /// Signs one of the viewer's browsers out.
    async fn revoke_session(&self, viewer: &Viewer, id: &str) -> Answer<()>;
    /// How many accounts at a provider the viewer is known by.
    async fn outside_links(&self, viewer: &Viewer) -> Answer<u32>;
    /// Makes the viewer unknown to every provider.
    async fn unlink_outside(&self, viewer: &Viewer) -> Answer<()>;
    /// Signs every browser of the viewer's out but the one that asks.
    async fn revoke_other_sessions(&self, viewer: &Viewer, client: &Client) -> Answer<()>;
    /// Whether the viewer's second step of sign-in is on.
    async fn two_step(&self, viewer: &Viewer) -> Answer<TwoStepState>;
    /// Makes a secret for an authenticator app, to be confirmed with a first code.
    async fn begin_two_step(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Answer<TwoStepSetup>;
    /// Switches the second step on; answers the recovery codes, this once.
    async fn confirm_two_step(
        &self,
        viewer: &Viewer,
        code: &str,
        client: &Client,
    ) -> Answer<Vec<String>>;
    /// Puts new recovery codes in the place of the old ones.
    async fn renew_recovery_codes(
        &self,
        viewer: &Viewer,
        password: &str,
        client: &Client,
    ) -> Answer<Vec<String>>;
    /// Switches the second step off.
    async fn end_two_step(&self, viewer: &Viewer, password: &str, client: &Client) -> Answer<()>;
    /// Makes an API token; `expires_in_days` absent = never expires. Only administrators give
    /// [`Scope::Admin`].
    async fn create_token(
        &self,
        viewer: &Viewer,
        name: &str,
        expires_in_days: Option<u32>,
        scopes: &[Scope],
    ) -> Answer<NewToken>;
    /// The viewer's tokens, newest first.
    async fn list_tokens(&self, viewer: &Viewer) -> Answer<Vec<TokenSummary>>;
    /// Ends one of the viewer's tokens at once.
    async fn revoke_token(&self, viewer: &Viewer, id: i64) -> Answer<()>;
}

/// The studio's side of the queue.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Checks the request, fills defaults in and queues it durably before answering. Of several
    /// images, the first one's job is answered; an image that is there already is a job that is done.
    async fn submit(&self, viewer: &Viewer, request: GenerationRequest) -> Answer<JobView>;
    /// The viewer's jobs that are queued or running (oldest first), then those that ended in the
    /// last ten minutes without an image (failed, cancelled).
    async fn list_active(&self, viewer: &Viewer) -> Answer<Vec<JobView>>;
    /// One of the viewer's jobs.
    async fn job(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView>;
    /// Stops one of the viewer's jobs; a job that ended already is answered as it is.
    async fn cancel(&self, viewer: &Viewer, id: &JobId) -> Answer<JobView>;
    /// When such a request would start and how long it would take.
    async fn estimate(&self, viewer: &Viewer, request: GenerationRequest) -> Answer<Estimate>;
    /// How the prompts of such a request will be cut into tokens, and what does not fit.
    async fn prompt_tokens(
        &self,
        viewer: &Viewer,
        request: GenerationRequest,
    ) -> Answer<PromptTokens>;
    /// The models that can be asked for, the default first.
    async fn list_models(&self, viewer: &Viewer) -> Answer<Vec<ModelSummary>>;
    /// The LoRAs that can be asked for, by name.
    async fn list_loras(&self, viewer: &Viewer) -> Answer<Vec<AddOn>>;
    /// The VAEs that can be asked for in place of a model's own, by name.
    async fn list_vaes(&self, viewer: &Viewer) -> Answer<Vec<AddOn>>;
    /// The device in one line.
    async fn device_badge(&self, viewer: &Viewer) -> Answer<DeviceBadge>;
}

/// What a user keeps for the studio.
#[async_trait]
pub trait Studio: Send + Sync {
    /// The viewer's presets and styles.
    async fn shelf(&self, viewer: &Viewer) -> Answer<Shelf>;
    /// Keeps a preset for the model that its settings name; with an id, in the place of that one.
    async fn save_preset(&self, viewer: &Viewer, preset: OwnPreset) -> Answer<OwnPreset>;
    /// Deletes one of the viewer's presets.
    async fn delete_preset(&self, viewer: &Viewer, id: &str) -> Answer<()>;
    /// Keeps a style; with an id, in the place of that one.
    async fn save_style(&self, viewer: &Viewer, style: OwnStyle) -> Answer<OwnStyle>;
    /// Deletes one of the viewer's styles.
    async fn delete_style(&self, viewer: &Viewer, id: &str) -> Answer<()>;
    /// Keeps the styles of a file of A1111's.
    async fn import_styles(&self, viewer: &Viewer, csv: &str) -> Answer<ImportedStyles>;
    /// The viewer's latest prompts that hold all of these words, newest first, each once.
    async fn past_prompts(&self, viewer: &Viewer, words: &str) -> Answer<Vec<PastPrompt>>;
}

/// A user's own images, and what others share.
#[async_trait]
pub trait Gallery: Send + Sync {
    /// One page, newest first; `after` is the previous page's `next`.
    async fn list_images(
        &self,
        viewer: &Viewer,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<GalleryPage> {
        self.find_images(viewer, &ImageQuery::default(), after, limit)
            .await
    }
    /// As `list_images`, of those that a query asks for. A collection may be somebody else's, if
    /// it is shared.
    async fn find_images(
        &self,
        viewer: &Viewer,
        query: &ImageQuery,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<GalleryPage>;
    /// What the images that a query asks for have in common.
    async fn facets(&self, viewer: &Viewer, query: &ImageQuery) -> Answer<Facets>;
    /// One image with everything known about it; not one that lies in the trash.
    async fn image(&self, viewer: &Viewer, id: &ImageId) -> Answer<ImageDetail>;
    /// Puts an image into the trash.
    async fn delete_image(&self, viewer: &Viewer, id: &ImageId) -> Answer<()>;
    /// Does something to several images and answers to how many. Those that are not the viewer's
    /// are left out, as if they did not exist.
    async fn act(&self, viewer: &Viewer, ids: &[ImageId], act: ImageAct) -> Answer<u32>;
    /// What lies in the viewer's trash; `after` is the previous page's `next`.
    async fn trash(&self, viewer: &Viewer, after: Option<&str>, limit: u32) -> Answer<Trash>;
    /// Deletes everything in the viewer's trash; answers how many images.
    async fn empty_trash(&self, viewer: &Viewer) -> Answer<u32>;
    /// Sets after how many days images in anybody's trash go for good; for administrators.
    async fn set_trash_days(&self, viewer: &Viewer, days: u32) -> Answer<()>;
    /// The viewer's collections by name, then those that others share.
    async fn collections(&self, viewer: &Viewer) -> Answer<Vec<Collection>>;
    /// Makes, changes or deletes a collection of the viewer's, and answers it as it is then.
    async fn change_collection(
        &self,
        viewer: &Viewer,
        act: CollectionAct,
    ) -> Answer<Option<Collection>>;
    /// The open links to one of the viewer's images, newest first.
    async fn share_links(&self, viewer: &Viewer, id: &ImageId) -> Answer<Vec<ShareLink>>;
    /// Makes a link by which anybody may look at one of the viewer's images.
    async fn create_share_link(
        &self,
        viewer: &Viewer,
        id: &ImageId,
        days: u32,
        with_settings: bool,
    ) -> Answer<NewShareLink>;
    /// Ends one of the viewer's links.
    async fn revoke_share_link(&self, viewer: &Viewer, id: &str) -> Answer<()>;
    /// What a link leads to, for whoever holds its secret.
    async fn open_share_link(&self, secret: &str) -> Answer<SharedImage>;
}

/// What only administrators may ask; each method refuses anybody else with `Forbidden`.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Devices: what was found, tried, used, and why.
    async fn devices(&self, viewer: &Viewer) -> Answer<DevicesReport>;
    /// Runs the probe again and answers its result; with a device, of GPUs only that one is tried.
    async fn test_devices_again(
        &self,
        viewer: &Viewer,
        device: Option<&str>,
    ) -> Answer<DevicesReport>;
    /// Chooses devices and precision, and answers what follows; what the command line fixes stays.
    async fn set_device_choice(
        &self,
        viewer: &Viewer,
        choice: DeviceChoice,
    ) -> Answer<DevicesReport>;
    /// Memory, load, temperature and step times of the last `span_s` seconds, at most an hour.
    async fn vitals(&self, viewer: &Viewer, span_s: u32) -> Answer<VitalsReport>;
    /// Everybody's queued and running jobs, and the last twenty that ended.
    async fn queue(&self, viewer: &Viewer) -> Answer<Vec<QueueRow>>;
    /// Stops anybody's job.
    async fn cancel_job(&self, viewer: &Viewer, id: &JobId) -> Answer<()>;
    /// Everybody.
    async fn list_users(&self, viewer: &Viewer) -> Answer<Vec<UserRow>>;
    /// Makes a user with a first password.
    async fn create_user(
        &self,
        viewer: &Viewer,
        credentials: Credentials,
        role: Role,
    ) -> Answer<UserRow>;
    /// Closes or opens sign-in; closing ends sessions and tokens at once. Nobody can close themselves out.
    async fn set_user_disabled(&self, viewer: &Viewer, id: UserId, disabled: bool) -> Answer<()>;
}

/// Who may come in and do what, for administrators only: each method refuses anybody else with
/// `Forbidden`, and what changes something is in the audit log.
#[async_trait]
pub trait People: Send + Sync {
    /// Users, people who wait, open invitations, and the choices about them.
    async fn people(&self, viewer: &Viewer) -> Answer<PeopleData>;
    /// One user.
    async fn person(&self, viewer: &Viewer, id: UserId) -> Answer<PersonData>;
    /// Makes a link that lets people in; its secret is answered this once.
    async fn invite(&self, viewer: &Viewer, new: NewInvitation) -> Answer<MadeLink>;
    /// Ends a link.
    async fn revoke_invitation(&self, viewer: &Viewer, id: i64) -> Answer<()>;
    /// Opens or closes the form by which people ask for an account.
    async fn set_self_sign_up(&self, viewer: &Viewer, on: bool) -> Answer<()>;
    /// Lets somebody in who waits since `asked_at` (Unix milliseconds), with a role, or forgets
    /// them. `NotFound` where another waits under that id by now: ids of the forgotten come again.
    async fn answer_sign_up(
        &self,
        viewer: &Viewer,
        id: UserId,
        asked_at: i64,
        role: Option<Role>,
    ) -> Answer<()>;
    /// Gives a user another role and ends their sessions. The last administrator stays one.
    async fn set_role(&self, viewer: &Viewer, id: UserId, role: Role) -> Answer<()>;
    /// Makes a link by which a user sets a new password; its secret is answered this once.
    async fn make_reset_link(&self, viewer: &Viewer, id: UserId) -> Answer<MadeLink>;
    /// Switches the second step of a user off.
    async fn end_two_step_of(&self, viewer: &Viewer, id: UserId) -> Answer<()>;
    /// Stops a user's jobs and removes them; their images go where `leaving` says.
    async fn remove(&self, viewer: &Viewer, id: UserId, leaving: Leaving) -> Answer<()>;
    /// Allows administrators to look into others' images, or forbids it.
    async fn allow_looks(&self, viewer: &Viewer, on: bool) -> Answer<()>;
    /// A look into another's images, where it is allowed: a page of them, newest first.
    async fn look(&self, viewer: &Viewer, id: UserId, after: Option<&str>) -> Answer<LookPage>;
    /// A page of the audit log, newest first.
    async fn audit(&self, viewer: &Viewer, filter: AuditFilter) -> Answer<AuditPage>;
}

/// Models on disk, for administrators only: each method refuses anybody else with `Forbidden`.
#[async_trait]
pub trait Models: Send + Sync {
    /// Every model, and every fetch that runs or waits to be gone on with.
    async fn report(&self, viewer: &Viewer) -> Answer<ModelsReport>;
    /// Begins to fetch a model in the background.
    async fn fetch(&self, viewer: &Viewer, asked: NewFetch) -> Answer<()>;
    /// Does something to a model or a fetch.
    async fn act(&self, viewer: &Viewer, name: &str, act: ModelAct) -> Answer<()>;
    /// Looks through the folder of models again.
    async fn look_again(&self, viewer: &Viewer) -> Answer<()>;
    /// Sets the least role that may see and use a model.
    async fn set_access(&self, viewer: &Viewer, name: &str, least: Role) -> Answer<()>;
}

/// Running the server, for administrators only: each method refuses anybody else with `Forbidden`,
/// and what changes something is in the audit log.
#[async_trait]
pub trait Operations: Send + Sync {
    /// The queue as a whole, with the jobs that a filter lets through. Never a prompt.
    async fn queue_report(&self, viewer: &Viewer, filter: QueueFilter) -> Answer<QueueReport>;
    /// Pauses the queue or closes it to new jobs, or takes that back.
    async fn set_queue_hold(&self, viewer: &Viewer, hold: QueueHold, on: bool) -> Answer<()>;
    /// Stops jobs of anybody, and answers how many there were to stop.
    async fn cancel_jobs(&self, viewer: &Viewer, which: CancelWhich) -> Answer<u32>;
    /// Gives a waiting job another place among everybody's.
    async fn move_job(&self, viewer: &Viewer, id: &JobId, to: MoveTo) -> Answer<()>;
    /// Everything that can be set while the server runs.
    async fn settings(&self, viewer: &Viewer) -> Answer<Vec<SettingRow>>;
    /// Sets something, or sets it back where no value is given.
    async fn change_setting(
        &self,
        viewer: &Viewer,
        name: SettingName,
        value: Option<String>,
    ) -> Answer<()>;
    /// The backups that lie here, and the one that is being made.
    async fn backups(&self, viewer: &Viewer) -> Answer<BackupsReport>;
    /// Begins to make a backup in the background.
    async fn begin_backup(&self, viewer: &Viewer) -> Answer<()>;
    /// Stops making it; nothing of it is kept.
    async fn stop_backup(&self, viewer: &Viewer) -> Answer<()>;
    /// Deletes a backup.
    async fn delete_backup(&self, viewer: &Viewer, name: &str) -> Answer<()>;
}

/// The whole port, cheap to clone.
#[derive(Clone)]
pub struct Backend {
    /// Accounts, sessions and tokens.
    pub accounts: Arc<dyn Accounts>,
    /// The studio's side of the queue.
    pub jobs: Arc<dyn Jobs>,
    /// What a user keeps for the studio.
    pub studio: Arc<dyn Studio>,
    /// A user's own images.
    pub gallery: Arc<dyn Gallery>,
    /// What only administrators may ask.
    pub admin: Arc<dyn Admin>,
    /// Models on disk.
    pub models: Arc<dyn Models>,
    /// Who may come in and do what.
    pub people: Arc<dyn People>,
    /// What people call the provider that they may sign in through, where there is one.
    pub outside: Option<String>,
    /// Running the server.
    pub operations: Arc<dyn Operations>,
}

/// The port of the request being answered.
///
/// # Errors
/// [`AppError::Unavailable`] outside a request.
pub fn use_backend() -> Answer<Backend> {
    use_context::<Backend>().ok_or_else(|| AppError::Unavailable {
        message: "The server is starting. Try again in a moment.".into(),
    })
}

/// Who asks, or [`AppError::SignInRequired`].
pub fn use_viewer() -> Answer<Viewer> {
    use_context::<Option<Viewer>>()
        .flatten()
        .ok_or(AppError::SignInRequired)
}

/// Where the request came from.
pub fn use_client() -> Client {
    use_context::<Client>().unwrap_or_default()
}
