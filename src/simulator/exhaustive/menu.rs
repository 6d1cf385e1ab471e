//! Which searches there are to make of a committee, and making them side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Faults, Faulty, Menu, Pages, Report, Search, SearchError, search};
use crate::bls::Index;

/// All that is worth searching for committees of `size`: nobody at fault; each member cut off; each member crashing; each
/// member faulty. First without polls, where the searches are small, then with them; then a faulty member that posts more
/// often; at last each pair of a faulty and a crashing member.
pub fn menu(size: usize) -> Vec<Search> {
    let members = || Index::all(size);
    let faulty = |member, menu, posts| Faults { faulty: Some(Faulty { member, menu, posts }), ..Faults::default() };
    let polled = |faults| Search { polls: [true, false, false], ..Search::new(size, faults) };
    let unpolled = |faults| Search { polls: [false; 3], ..Search::new(size, faults) };
    let cut_off = |member| Faults { cut_off: Some(member), ..Faults::default() };
    let crash = |member| Faults { crash: Some(member), ..Faults::default() };
    let mut menu = vec![unpolled(Faults::default())];
    menu.extend(members().map(|member| unpolled(cut_off(member))));
    menu.extend(members().map(|member| unpolled(crash(member))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Everything, 1))));
    menu.push(Search::new(size, Faults::default()));
    menu.push(Search { pages: Pages::AnySplit, ..polled(Faults::default()) });
    menu.extend(members().map(|member| polled(cut_off(member))));
    menu.extend(members().map(|member| polled(crash(member))));
    menu.extend(members().map(|member| polled(faulty(member, Menu::Everything, 1))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Everything, 2))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Accusing, 3))));
    menu.extend(members().map(|member| unpolled(faulty(member, Menu::Answering, 3))));
    let pairs = members().flat_map(|one| members().filter(move |other| *other != one).map(move |other| (one, other)));
    menu.extend(pairs.map(|(one, other)| unpolled(Faults { crash: Some(other), ..faulty(one, Menu::Everything, 1) })));
    menu
}

/// Threads that search at the same time. Each keeps its own states, so the limits count once for each.
pub const SEARCHERS: usize = 2;

/// Makes several searches within `time`, and hands each report out as it comes. A search gets three times its equal share
/// of the time that is left when it begins: the small ones need less, and none takes it all.
///
/// # Errors
/// See [`SearchError`].
pub fn search_all(
    searches: &[Search],
    time: Duration,
    report: impl Fn(&Report) + Sync,
) -> Result<Vec<Report>, SearchError> {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let one_by_one = || -> Result<Vec<(usize, Report)>, SearchError> {
        let mut reports = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = searches.get(number) else { return Ok(reports) };
            let rounds = u32::try_from((searches.len() - number).div_ceil(SEARCHERS)).unwrap_or(u32::MAX);
            let left = time.saturating_sub(began.elapsed());
            let share = left.min(3 * left / rounds);
            let found = search(&Search { time_limit: share.min(one.time_limit), ..one.clone() })?;
            report(&found);
            reports.push((number, found));
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..SEARCHERS).map(|_| scope.spawn(one_by_one)).collect();
        searchers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut reports = Vec::new();
    for result in results {
        match result {
            Ok(found) => reports.extend(found?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    reports.sort_by_key(|(number, _)| *number);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}
