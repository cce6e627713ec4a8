//! Which pages are fetched together. What every page needs is one WebAssembly file; each room is
//! another, fetched when one of its pages is first opened (with the page itself where the server
//! rendered that). A page whose room cannot be fetched stays as the server made it, and works as
//! pages do without wasm.

use crate::account::{
    AccountPage, CodePage, JoinPage, ResetPage, SetupPage, SignInPage, SignUpPage,
};
use crate::admin::{
    AdminPage, AuditLogPage, BackupsPage, LookAtImagesPage, ModelsPage, PeoplePage, PersonPage,
    QueuePage, SettingsPage, UsagePage,
};
use crate::gallery::{
    CollectionsPage, ComparePage, GalleryIndexPage, ImagePage, SharedPage, TrashPage,
};
use crate::studio::StudioPage;
use leptos::LazyViewError;
use leptos::prelude::*;
use leptos_router::LazyRoute;

/// A room: the function that is its way in, and for each of its pages the route that leads there.
macro_rules! room {
    ($room:ident, $open:ident, $preload:ident: $($route:ident => $page:ident),+ $(,)?) => {
        #[derive(Clone, Copy)]
        #[allow(clippy::enum_variant_names, reason = "a variant is called as its route")]
        enum $room {
            $($route),+
        }

        #[lazy(fallible)]
        fn $open(page: $room) -> Result<AnyView, LazyViewError> {
            Ok(match page {
                $($room::$route => view! { <$page/> }.into_any()),+
            })
        }

        $(
            #[doc = concat!("The way to [`", stringify!($page), "`].")]
            #[derive(Clone, Copy, Debug)]
            pub struct $route;

            impl LazyRoute for $route {
                fn data() -> Self {
                    Self
                }

                async fn view(_: Self) -> AnyView {
                    match $open($room::$route).await {
                        Ok(page) => page,
                        Err(error) => out_of_reach(error).await,
                    }
                }

                async fn preload() {
                    // Only the compiled interface comes in parts; what fails here fails again, and is
                    // told, when the page is opened.
                    #[cfg(feature = "hydrate")]
                    let _ = $preload().await;
                }
            }
        )+
    };
}

room!(Doors, open_doors, __preload_open_doors:
    SignInRoute => SignInPage,
    SignUpRoute => SignUpPage,
    SetupRoute => SetupPage,
    JoinRoute => JoinPage,
    ResetRoute => ResetPage,
    CodeRoute => CodePage,
);
room!(Studio, open_studio, __preload_open_studio: StudioRoute => StudioPage);
room!(Gallery, open_gallery, __preload_open_gallery: GalleryRoute => GalleryIndexPage);
room!(Image, open_image, __preload_open_image: ImageRoute => ImagePage);
room!(Cabinet, open_cabinet, __preload_open_cabinet:
    CollectionsRoute => CollectionsPage,
    CompareRoute => ComparePage,
    TrashRoute => TrashPage,
);
room!(Shared, open_shared, __preload_open_shared: SharedRoute => SharedPage);
room!(Account, open_account, __preload_open_account: AccountRoute => AccountPage);
room!(Admin, open_admin, __preload_open_admin: AdminRoute => AdminPage);
room!(Office, open_office, __preload_open_office:
    ModelsRoute => ModelsPage,
    QueueRoute => QueuePage,
    SettingsRoute => SettingsPage,
    BackupsRoute => BackupsPage,
    UsageRoute => UsagePage,
);
room!(People, open_people, __preload_open_people:
    PeopleRoute => PeoplePage,
    PersonRoute => PersonPage,
    AuditLogRoute => AuditLogPage,
    LookAtImagesRoute => LookAtImagesPage,
);

/// Fetches the room of the page that the browser shows: it must be there before the page is taken over. Says
/// whether it came. A new room has its line here; a page without one stays as the server made it, and
/// the tests that open every page say so.
#[cfg(feature = "hydrate")]
pub async fn fetch(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let came = match parts.as_slice() {
        [""] => __preload_open_studio().await,
        ["sign-in" | "sign-up" | "setup" | "join" | "reset", ..] => __preload_open_doors().await,
        ["gallery"] => __preload_open_gallery().await,
        ["gallery", ..] => __preload_open_image().await,
        ["collections" | "compare" | "trash", ..] => __preload_open_cabinet().await,
        ["s", ..] => __preload_open_shared().await,
        ["account", ..] => __preload_open_account().await,
        ["admin"] => __preload_open_admin().await,
        [
            "admin",
            "models" | "queue" | "settings" | "backups" | "usage",
            ..,
        ] => __preload_open_office().await,
        ["admin", ..] => __preload_open_people().await,
        _ => Ok(()),
    };
    came.is_ok()
}

/// What to do about a room that did not arrive: the server has a new interface, or is gone. A page
/// that the server rendered stays as it is; on the way to another, the browser loads that whole.
async fn out_of_reach(error: LazyViewError) -> AnyView {
    leptos::logging::warn!("a part of the interface could not be fetched: {error}");
    #[cfg(feature = "hydrate")]
    if crate::hydrated::is_hydrated() {
        let _ = window().location().reload();
    }
    std::future::pending().await
}
