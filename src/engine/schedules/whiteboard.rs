//! Poller and publisher, with whiteboard clients that fail.

use std::sync::Arc;
use std::time::Duration;

use super::{block, node, run};
use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use crate::engine::WhiteboardConfig;
use crate::engine::host::HostClient;
use crate::engine::lifecycle::{Desk, Inbox, Mailbox, Received, desk, inbox};
use crate::engine::mail::{PollerInput, PublisherInput, ReactorInput};
use crate::engine::whiteboard::{poll, publish};
use crate::engine::{Input, READ_PAGE, ReadId, ReadRequest};
use crate::epoch::{Header, InstanceId};
use crate::sync::explore::{Watched, choose, explore};
use crate::sync::thread::{self, JoinHandle};

/// Posts on the board: two full pages and some.
const POSTS: usize = 2 * READ_PAGE + 3;
const CONFIG: WhiteboardConfig = WhiteboardConfig {
    post_retries: 2,
    read_retries: 2,
    base_wait: Duration::from_secs(1),
    jitter_percent: 25,
    max_wait: Duration::from_secs(2),
};

/// A board of [`POSTS`] posts that takes more, and two clients that fail as often as was said, whichever is asked.
#[derive(Default)]
struct Board(Watched<Calls>);

#[derive(Default)]
struct Calls {
    failing: usize,
    reads: usize,
    tries: Vec<String>,
    posted: Vec<String>,
    submitted: usize,
    over: bool,
}

impl Board {
    fn called(&self, note: impl FnOnce(&mut Calls)) -> Result<(), ClientError> {
        self.0.update(|calls| {
            assert!(!calls.over, "the board was called after the stop");
            note(calls);
            match calls.failing {
                0 => Ok(()),
                _ => {
                    calls.failing -= 1;
                    Err(ClientError::Unavailable("as told".into()))
                }
            }
        })
    }

    fn clients(self: &Arc<Self>) -> Arc<[HostClient]> {
        HostClient::all(vec![self.clone(), self.clone()])
    }
}

fn post(number: usize) -> BoardMessage {
    BoardMessage { node_id: node(number as u8), content: number.to_string() }
}

impl DkgContractClient for Board {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.called(|calls| calls.tries.push(content.to_owned()))?;
        match content.split(' ').next() {
            Some("refused") => return Err(ClientError::Refused("as told".into())),
            Some("unavailable") => return Err(ClientError::Unavailable("as told".into())),
            _ => {}
        }
        self.0.update(|calls| calls.posted.push(content.to_owned()));
        Ok(())
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        self.called(|calls| calls.reads += 1)?;
        Ok((from_index as usize..as_of.height as usize).take(limit).map(post).collect())
    }

    fn submit_result(&self, _: &InstanceId, _: &DkgResult) -> Result<(), ClientError> {
        self.called(|_| {})?;
        self.0.update(|calls| calls.submitted += 1);
        Ok(())
    }
}

/// A poller on this board, and the inbox of its reactor, which holds one page.
fn poller(board: &Arc<Board>) -> (Desk<PollerInput>, Inbox<ReactorInput>, Mailbox<ReactorInput>, JoinHandle<()>) {
    let (poller, poller_inbox) = desk();
    let (reactor, reactor_inbox) = inbox(1);
    let (clients, to_reactor) = (board.clients(), reactor.clone());
    let (publisher, _) = inbox(1);
    let thread = thread::spawn(move || poll(&poller_inbox, &clients, CONFIG, &to_reactor, &publisher));
    (poller, reactor_inbox, reactor, thread)
}

fn publisher(board: &Arc<Board>, post_retries: u32) -> (Mailbox<PublisherInput>, JoinHandle<()>) {
    let (publisher, publisher_inbox) = inbox(16);
    let clients = board.clients();
    let config = WhiteboardConfig { post_retries, ..CONFIG };
    let (poller, _) = desk();
    (publisher, thread::spawn(move || publish(&publisher_inbox, &clients, config, &poller)))
}

fn request(id: u64, height: usize, must_succeed: bool) -> PollerInput {
    PollerInput::Read(ReadRequest { id: ReadId(id), from_index: 1, as_of: block(height as u64), must_succeed })
}

/// The next page for the reactor, of this read or an earlier one, which is passed over as the core does.
fn next_page(reactor: &Inbox<ReactorInput>, current: u64) -> Option<(Vec<BoardMessage>, bool)> {
    loop {
        match reactor.receive(None) {
            Received::Message(ReactorInput::Answer(Input::Page { read, messages, last })) if read.0 == current => {
                return Some((messages, last));
            }
            Received::Message(ReactorInput::Answer(Input::ReadGivenUp(read))) if read.0 == current => return None,
            Received::Message(ReactorInput::Answer(Input::Page { read, .. } | Input::ReadGivenUp(read))) => {
                assert!(read.0 < current);
            }
            _ => panic!("the poller says nothing else"),
        }
    }
}

fn read_all(reactor: &Inbox<ReactorInput>, current: u64) -> Vec<BoardMessage> {
    let mut all = Vec::new();
    loop {
        let (messages, last) = next_page(reactor, current).expect("a read that must succeed is not given up");
        all.extend(messages);
        if last {
            return all;
        }
    }
}

#[test]
fn a_read_that_must_succeed_goes_on_until_it_has_every_page_as_of_its_block() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        let (poller, reactor, _, thread) = poller(&board);
        board.0.update(|calls| calls.failing = choose(8));
        poller.put(request(1, POSTS, true));
        assert_eq!(read_all(&reactor, 1), (1..POSTS).map(post).collect::<Vec<_>>());
        poller.stop();
        thread.join().unwrap();
        board.0.update(|calls| assert_eq!(calls.failing, 0));
    });
}

#[test]
fn a_read_that_need_not_succeed_is_given_up_after_the_last_retry() {
    explore(1_000, || {
        let board = Arc::<Board>::default();
        let (poller, reactor, _, thread) = poller(&board);
        let failing = choose(5);
        board.0.update(|calls| calls.failing = failing);
        poller.put(request(1, 2, false));
        let tries = CONFIG.read_retries as usize + 1;
        assert_eq!(next_page(&reactor, 1), (failing < tries).then(|| (vec![post(1)], true)));
        poller.stop();
        thread.join().unwrap();
        board.0.update(|calls| assert_eq!(calls.reads, (failing + 1).min(tries)));
    });
}

#[test]
fn an_abandoned_read_is_never_delivered_as_the_current_one() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        let (poller, reactor, _, thread) = poller(&board);
        board.0.update(|calls| calls.failing = choose(3));
        poller.put(request(1, POSTS, choose(2) == 0));
        if choose(2) == 0 {
            let _page_or_given_up = next_page(&reactor, 1);
        }
        if choose(2) == 0 {
            poller.put(PollerInput::Abandon);
        }
        // As of an earlier block: whatever lies behind it would be a page of the other read.
        poller.put(request(2, READ_PAGE + 2, true));
        assert_eq!(read_all(&reactor, 2), (1..READ_PAGE + 2).map(post).collect::<Vec<_>>());
        poller.stop();
        thread.join().unwrap();
    });
}

#[test]
fn a_poller_is_stopped_at_any_moment_also_while_it_waits_for_room_at_the_reactor() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        let (poller, reactor, mailbox, thread) = poller(&board);
        board.0.update(|calls| calls.failing = choose(3));
        poller.put(request(1, POSTS, true));
        if choose(2) == 0 {
            let _page = next_page(&reactor, 1);
        }
        // The reactor takes no more, and is in the host's code: its inbox stays.
        mailbox.stop();
        poller.stop();
        thread.join().unwrap();
        board.0.update(|calls| calls.over = true);
        assert!(matches!(reactor.receive(None), Received::Stopped));
    });
}

#[test]
fn posts_are_made_once_and_in_order_and_one_that_is_refused_holds_up_none() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        // A client may fail for one post as often as it is retried.
        board.0.update(|calls| calls.failing = choose(CONFIG.post_retries as usize + 1));
        let (publisher, thread) = publisher(&board, CONFIG.post_retries);
        for content in ["0", "refused 1", "2", "3"] {
            let post = PublisherInput::Post { instance: run(1), content: content.into() };
            assert_eq!(publisher.send(post), Ok(()));
        }
        board.0.wait(|calls| (calls.posted.len() == 3).then_some(()));
        publisher.stop();
        thread.join().unwrap();
        board.0.update(|calls| {
            assert_eq!(calls.posted, ["0", "2", "3"]);
            calls.tries.dedup();
            assert_eq!(calls.tries, ["0", "refused 1", "2", "3"]);
        });
    });
}

#[test]
fn when_a_run_has_ended_its_posts_are_let_go_of_and_its_result_is_submitted() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        board.0.update(|calls| calls.failing = choose(3));
        // The posts would be tried for ever.
        let (publisher, thread) = publisher(&board, 1_000_000);
        let post = |content: &str| PublisherInput::Post { instance: run(1), content: content.into() };
        for input in [
            post("unavailable 1"),
            post("unavailable 2"),
            PublisherInput::EndRun(run(1)),
            PublisherInput::Submit { instance: run(1), result: DkgResult::Empty },
        ] {
            assert_eq!(publisher.send(input), Ok(()));
        }
        board.0.wait(|calls| (calls.submitted == 1).then_some(()));
        publisher.stop();
        thread.join().unwrap();
    });
}

#[test]
fn a_publisher_is_stopped_at_any_moment_and_posts_nothing_after_it() {
    explore(2_000, || {
        let board = Arc::<Board>::default();
        board.0.update(|calls| calls.failing = choose(5));
        let (publisher, thread) = publisher(&board, CONFIG.post_retries);
        let talking = thread::spawn({
            let publisher = publisher.clone();
            move || {
                for number in 0..4 {
                    let post = PublisherInput::Post { instance: run(1), content: number.to_string() };
                    let _taken_or_stopped = publisher.try_send(post);
                }
            }
        });
        publisher.stop();
        thread.join().unwrap();
        board.0.update(|calls| calls.over = true);
        talking.join().unwrap();
    });
}
