//! Who this page was rendered for, known to server and browser alike without asking again.

use crate::account::Viewer;
use crate::components::percent_encode;
use leptos::prelude::*;
use leptos_router::components::Redirect;
use leptos_router::hooks::use_location;

#[derive(Clone)]
struct ViewerHere(Option<Viewer>);

/// What the house is called. The server gives it to each page as context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteName(pub String);

/// Hands the name of the house to every page.
pub fn provide_site_name() {
    let name = SharedValue::new(|| {
        use_context::<SiteName>().map_or_else(|| "Atelier".to_owned(), |name| name.0)
    });
    provide_context(SiteName(name.into_inner()));
}

/// What the house is called.
pub fn use_site_name() -> String {
    use_context::<SiteName>().map_or_else(|| "Atelier".to_owned(), |name| name.0)
}

/// Hands the request's viewer to every page: on the server from the request, in the browser from
/// what the server wrote into the document. Signing in and out load a new document.
pub fn provide_viewer() -> Option<Viewer> {
    let viewer = SharedValue::new(|| use_context::<Option<Viewer>>().flatten()).into_inner();
    provide_context(ViewerHere(viewer.clone()));
    viewer
}

/// Who this page was rendered for.
pub fn use_viewer_here() -> Option<Viewer> {
    use_context::<ViewerHere>().and_then(|here| here.0)
}

/// Sends the visitor to another page: before anything is rendered on the server, by the router in
/// the browser.
#[component]
pub fn Elsewhere(
    /// Where to.
    path: String,
) -> impl IntoView {
    // Leptos redirects with a status only those who say that they accept HTML. A page that is not
    // for them is not for `curl` either.
    #[cfg(feature = "ssr")]
    crate::response::set_status(302);
    view! { <Redirect path=path/> }
}

/// Shows its children to somebody signed in, and the door to anybody else.
#[component]
pub fn SignedInOnly(
    /// The page.
    children: ChildrenFn,
) -> impl IntoView {
    if use_viewer_here().is_some() {
        return children().into_any();
    }
    let location = use_location();
    let search = location.search.get_untracked();
    let mut next = location.pathname.get_untracked();
    if !search.is_empty() {
        next = format!("{next}?{}", search.trim_start_matches('?'));
    }
    let path = match next.as_str() {
        "/" => "/sign-in".to_owned(),
        next => format!("/sign-in?next={}", percent_encode(next)),
    };
    view! { <Elsewhere path=path/> }.into_any()
}
