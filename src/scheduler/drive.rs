//! The threads of a runtime: background loops, the caller of `block_on` as loop 0, and a second caller as a guest.
//!
//! *Invariant.* Leaving a loop drops everything pinned to it on the leaving thread, and hands on everything else: queued
//! handles to the injector, sockets and timers of loop 0 to its custodian, roles to who still runs. Nothing that another
//! thread may still post is lost: what is not built yet waits for the next tenancy.
//!
//! *Threads.* The driving thread. *Ordering.* Entering and leaving are transitions of the sleep protocol (`README.md`,
//! "loop 0 comes and goes").

use std::ops::ControlFlow;
use std::panic::{Location, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use super::context;
use super::shared::{Anchor, Shared};
use super::tenancy::Queue;
use super::worker::Worker;
use crate::event_loop::clock::{self, NEVER};
use crate::event_loop::turn::TurnLimit;
use crate::event_loop::{EventLoop, Idle, LoopCore, LoopStopped, Remote, current};
use crate::primitive::BiasedArc;
use crate::task::context::{self as variables, Context as Variables};
use crate::task::{ErrorContext, Event, Outcome, catch};

/// The `fleet` of a guest's loop: nobody's, so that stealable tasks go to the injector.
const GUEST: usize = usize::MAX;

const NESTED: &str = "block_on was called on a thread that already drives an event loop: \
     await the future instead, or move the call to run_in_executor";

/// Aborts if the engine itself panics: user code is caught where it is called.
struct AbortOnPanic {
    /// A destructor may call `block_on` while its thread unwinds.
    unwinding: bool,
}

impl AbortOnPanic {
    fn new() -> Self {
        Self { unwinding: thread::panicking() }
    }
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() && !self.unwinding {
            eprintln!("epicycle: the engine panicked, which is a bug in it; aborting");
            std::process::abort();
        }
    }
}

// ---- background loops --------------------------------------------------------------------------------------------------

/// The life of the anchor's loop, on its own thread.
pub(crate) fn run_background(anchor: BiasedArc<Anchor>, queue: Queue) {
    let _abort = AbortOnPanic::new();
    let shared = anchor.shared.clone();
    let remote = anchor.remote.clone().expect("the anchor of a loop");
    let index = remote.index();
    let core = LoopCore::new(remote, queue, shared.fleet());
    let bias = BiasedArc::bias(&anchor);
    let in_runtime = context::work_for(anchor);
    let on_loop = current::enter(core.clone());
    shared.call_hook(&shared.options.on_thread_start, index);
    shared.start_watch(shared.idle.enter());
    let worker = Worker::new(shared.clone(), core.clone());
    shared.options.observer.tell(|| Event::RunStart { on: index });
    while !shared.is_closing() {
        let _ = worker.run_once(&|| false, &mut || ControlFlow::Continue(()));
    }
    worker.retire();
    close_loop(&shared, &core);
    // What the hook wakes is no longer queued here.
    drop(on_loop);
    shared.options.observer.tell(|| Event::RunStop { on: index });
    shared.call_hook(&shared.options.on_thread_stop, index);
    drop(in_runtime);
    drop(bias);
}

/// Ends a loop for good: cancels and drops all that is alive or queued here. What other loops hold of this loop's tasks
/// they drop themselves; what anybody posts from now on is dropped by the poster.
fn close_loop(shared: &Shared, core: &Rc<LoopCore>) {
    let remote = core.remote();
    remote.pinned().close();
    remote.live().close();
    // No loop's own, so any may close it: the first to come does, however long another is stuck.
    shared.outside.close();
    shared.injector.close();
    // First, so that what they wake is among what is drained.
    remote.timers().close(|waker| remote.wake(waker));
    remote.selector().close(|waker| remote.wake(waker));
    loop {
        remote.live().cancel_all();
        shared.outside.cancel_all();
        let travellers = core.drop_pinned();
        let posts = core.close_inbox();
        let mut any = !travellers.is_empty() || !posts.is_empty();
        drop((travellers, posts));
        while let Some(handle) = core.ready().pop_stealable() {
            any = true;
            drop(handle);
        }
        if !any {
            // Until then, destructors may have queued something here again.
            break;
        }
    }
    core.close();
}

// ---- block_on ----------------------------------------------------------------------------------------------------------

/// In the place of a root's panic: its loop was stopped before it was done.
struct Stopped;

/// A root future: polled on one thread, dropped there, its panic kept for the caller.
struct Root<'a, F: Future> {
    future: Pin<&'a mut Option<F>>,
    result: Option<thread::Result<F::Output>>,
    /// The caller's: `block_on` is a call like any other.
    variables: Variables,
}

impl<F: Future> Root<'_, F> {
    fn is_done(&self) -> bool {
        self.result.is_some()
    }

    /// Gives the future up if somebody has stopped `driven`, a loop of this thread. `core` is that of the root.
    fn obey_stop(&mut self, driven: &LoopCore, core: &LoopCore) {
        if driven.take_stop() && !self.is_done() {
            core.tell_root_ended(Outcome::Cancelled);
            self.result = Some(Err(Box::new(Stopped)));
        }
    }

    /// Polls once, on the loop whose root it is, as the task `idle`; true when done.
    fn step(&mut self, core: &LoopCore, idle: &Idle) -> bool {
        let was_done = self.is_done();
        let inside = idle.task.enter();
        let is_done = self.poll(&idle.waker);
        drop(inside);
        if let (false, Some(result)) = (was_done, &self.result) {
            core.tell_root_ended(if result.is_ok() { Outcome::Completed } else { Outcome::Panicked });
        }
        is_done
    }

    /// Polls once; true when done.
    fn poll(&mut self, waker: &Waker) -> bool {
        if self.result.is_none() {
            let future = self.future.as_mut().as_pin_mut().expect("dropped only when done");
            self.result = match self.variables.run(|| catch(|| future.poll(&mut Context::from_waker(waker)))) {
                Ok(Poll::Pending) => None,
                Ok(Poll::Ready(output)) => Some(Ok(output)),
                Err(payload) => Some(Err(payload)),
            };
        }
        self.is_done()
    }

    /// The end of a stay on a loop. If the future is done it is dropped, while the thread still drives the loop. A panic of its
    /// destructor is the caller's.
    fn leave(&mut self, core: &LoopCore, idle: &Idle) {
        if self.is_done() {
            let _inside = idle.task.enter();
            self.drop_future();
        } else {
            core.tell_root_ended(Outcome::Cancelled);
        }
    }

    fn drop_future(&mut self) {
        if let Err(payload) = self.variables.run(|| catch(|| self.future.set(None))) {
            self.result = Some(Err(payload));
        }
    }
}

/// Runs `future` on this thread, driving loop 0 meanwhile if nobody else does.
#[track_caller]
pub(crate) fn block_on<F: Future>(
    anchor: &BiasedArc<Anchor>,
    future: F,
    location: &'static Location<'static>,
) -> F::Output {
    if current::current().is_some() {
        panic_nested();
    }
    let shared = &anchor.shared;
    let mut root = Root { future: pin!(Some(future)), result: None, variables: variables::take() };
    while !root.is_done() {
        if shared.is_closing() {
            finish_alone(anchor, &mut root);
        } else if let Some(queue) = shared.tenancy.claim() {
            drive(anchor, queue, &mut root, location);
        } else {
            visit(anchor, &mut root, location);
        }
    }
    drop(variables::replace(root.variables));
    match root.result.take().expect("the loop above ends when it is there") {
        Ok(output) => output,
        Err(payload) if payload.is::<Stopped>() => panic!("{}", LoopStopped::new()),
        Err(payload) => resume_unwind(payload),
    }
}

/// The runtime has ended, but a future still has its caller's thread: a loop of its own serves its sleeps. What it gives to the
/// runtime is cancelled.
#[cold]
fn finish_alone<F: Future>(anchor: &BiasedArc<Anchor>, root: &mut Root<'_, F>) {
    let _in_runtime = context::work_for(anchor.clone());
    let to_end = std::future::poll_fn(|cx| if root.poll(cx.waker()) { Poll::Ready(()) } else { Poll::Pending });
    match EventLoop::new() {
        Ok(alone) => {
            // The root may stop the loop that it finds; but it is to come to its end.
            let mut to_end = pin!(to_end);
            while alone.run_until_complete(&mut to_end).is_err() {}
        }
        // Out of descriptors: without a loop its sleeps are polled.
        Err(_) => futures_lite::future::block_on(to_end),
    }
    root.drop_future();
}

#[cold]
#[track_caller]
fn panic_nested() -> ! {
    panic!("{NESTED}");
}

/// Drives loop 0 until the root is done or the runtime closes.
fn drive<F: Future>(
    anchor: &BiasedArc<Anchor>,
    queue: Queue,
    root: &mut Root<'_, F>,
    location: &'static Location<'static>,
) {
    let _abort = AbortOnPanic::new();
    let shared = &anchor.shared;
    let (core, worker) = enter_loop_0(shared, queue);
    let anchor = Anchor::new(shared, 0);
    let _bias = BiasedArc::bias(&anchor);
    let in_runtime = context::work_for(anchor);
    let on_loop = current::enter(core.clone());
    let observer = &shared.options.observer;
    observer.tell(|| Event::RunStart { on: 0 });
    let idle = core.spawn_root(location);
    if shared.has_peers() {
        while !shared.is_closing() && !root.is_done() {
            let _ = worker.run_once(&|| false, &mut || match root.step(&core, &idle) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            root.obey_stop(&core, &core);
        }
        if root.is_done() {
            core.tell_root_callback();
        }
    } else {
        while !shared.is_closing() && !core.is_stopping() {
            core.spin(shared.options.spin, || shared.is_closing());
            let _ = core.turn(None, &|| shared.is_closing(), &mut || {
                // As in asyncio: the root's completion queues a callback that stops the loop.
                if !root.is_done() && root.step(&core, &idle) {
                    let stopped = core.clone();
                    core.call_soon(move || {
                        stopped.tell_root_callback();
                        stopped.stop();
                    });
                }
                ControlFlow::Continue(())
            });
        }
        root.obey_stop(&core, &core);
    }
    root.leave(&core, &idle);
    idle.task.cancel();
    drop(idle);
    leave_loop_0(shared, &core, &worker, || {
        drop(on_loop);
        drop(in_runtime);
    });
    observer.tell(|| Event::RunStop { on: 0 });
}

fn enter_loop_0(shared: &Arc<Shared>, queue: Queue) -> (Rc<LoopCore>, Worker) {
    let remote = &shared.remotes[0];
    if shared.has_peers() {
        shared.remotes[1].selector().unnest(remote.selector());
    }
    // Its last handle is a tenancy ago, which would count as stuck.
    remote.stats().seen_at.set(clock::now());
    remote.parker().enter();
    shared.start_watch(shared.idle.enter());
    let core = LoopCore::new(remote.clone(), queue, shared.fleet());
    let worker = Worker::new(shared.clone(), core.clone());
    (core, worker)
}

/// Ends a tenancy of loop 0; `off` makes the thread an ordinary one again.
fn leave_loop_0(shared: &Arc<Shared>, core: &Rc<LoopCore>, worker: &Worker, off: impl FnOnce()) {
    let remote = core.remote();
    if shared.is_closing() {
        close_loop(shared, core);
    }
    hand_on_stealable(shared, core);
    let travellers = core.drop_pinned();
    core.close();
    off();
    remote.parker().leave(); // SleepFence, as for a loop that parks
    let last_searcher = worker.retire();
    hand_on_stealable(shared, core);
    if !travellers.is_empty() {
        // Posts, and with one loop all that was queued, wait for the next driver.
        remote.inbox().restore(travellers);
    }
    if last_searcher || !shared.injector.is_empty() {
        // What was given while this loop was the one to find it.
        shared.invite();
    }
    if shared.has_peers() {
        give_to_custodian(shared, remote);
    }
    // What was not measured yet is measured here.
    core.read_clock();
    shared.tenancy.release(core.ready().take_stealable());
    if shared.is_closing() {
        // The closer may have given up on a loop that was still driven. Whoever closes does it as the tenant.
        close_vacant_loop(shared);
    }
}

/// Closes loop 0 if nobody drives it; true if so.
pub(crate) fn close_vacant_loop(shared: &Arc<Shared>) -> bool {
    let Some(queue) = shared.tenancy.claim() else { return false };
    let core = LoopCore::new(shared.remotes[0].clone(), queue, shared.fleet());
    // Its destructors see it as their loop, whatever loop this thread drives.
    let entered = current::enter_over(core.clone());
    close_loop(shared, &core);
    drop(entered);
    shared.tenancy.release(core.ready().take_stealable());
    true
}

/// What any loop may run goes to the others.
fn hand_on_stealable(shared: &Shared, core: &LoopCore) {
    while let Some(handle) = core.ready().pop_stealable() {
        shared.inject(handle);
    }
}

/// Loop 1 watches over loop 0's selector and timers until somebody drives loop 0 again.
fn give_to_custodian(shared: &Shared, remote: &Remote) {
    let custodian = &shared.remotes[1];
    if let Err(error) = custodian.selector().nest(custodian.index(), remote.selector())
        && cfg!(target_os = "linux")
    {
        let text = format!("loop 0 cannot be looked after while nobody is in block_on: {error}");
        custodian.report(&ErrorContext::new(text));
    }
    if remote.timers().next() != NEVER || remote.selector().sources() > 0 {
        // It may sleep past the deadlines that it has just become responsible for.
        custodian.unpark();
    }
}

// ---- guests ------------------------------------------------------------------------------------------------------------

/// Runs the root on a private loop for pinned work, while another thread drives loop 0; takes loop 0 over when that thread
/// leaves.
fn visit<F: Future>(anchor: &BiasedArc<Anchor>, root: &mut Root<'_, F>, location: &'static Location<'static>) {
    let _abort = AbortOnPanic::new();
    let shared = &anchor.shared;
    let remote = match Remote::new_guest(shared.options.exception_handler.clone(), shared.options.observer.clone()) {
        Ok(remote) => remote,
        Err(error) => {
            root.result = Some(Err(Box::new(format!("block_on cannot set up a loop: {error}"))));
            return;
        }
    };
    let core = LoopCore::new_guest(remote.clone(), shared.present_home().clone(), GUEST);
    let in_runtime = context::work_for(anchor.clone());
    let on_loop = current::enter(core.clone());
    shared.tenancy.add_guest(remote.clone());
    let observer = &shared.options.observer;
    observer.tell(|| Event::RunStart { on: remote.index() });
    let idle = core.spawn_root(location);
    while !root.is_done() && !shared.is_closing() {
        run_guest(shared, &core, root, &idle);
        if root.is_done() {
            break;
        }
        if let Some(queue) = shared.tenancy.claim() {
            carry(shared, queue, &core, root, &idle);
        } else if core.ready().is_empty() {
            sleep_as_guest(shared, &remote);
        }
    }
    if root.is_done() {
        core.tell_root_callback();
    }
    root.leave(&core, &idle);
    shared.tenancy.remove_guest(&remote);
    idle.task.cancel();
    drop(idle);
    remote.pinned().close();
    drop(core.drop_pinned());
    core.close();
    drop(core.close_inbox());
    drop(on_loop);
    drop(in_runtime);
    observer.tell(|| Event::RunStop { on: remote.index() });
}

fn run_guest<F: Future>(shared: &Shared, core: &LoopCore, root: &mut Root<'_, F>, idle: &Idle) {
    core.take_posts();
    if shared.is_closing() {
        // A closing loop wakes its timers before their time.
        return;
    }
    let _ = core.run_ready(TurnLimit::NONE, &mut || match root.step(core, idle) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    root.obey_stop(core, core);
}

fn sleep_as_guest(shared: &Shared, remote: &Remote) {
    // Told outside: an instrument may park the thread, too, and would take the wake-up.
    let (observer, on) = (&shared.options.observer, remote.index());
    observer.tell(|| Event::Parked { on });
    remote.parker().publish();
    let may_drive = shared.tenancy.is_free();
    if remote.inbox().is_empty() && !shared.is_closing() && !may_drive {
        thread::park();
    }
    remote.parker().retract();
    observer.tell(|| Event::Woke { on });
}

/// The guest drives loop 0 as well, its own loop and that one in turn.
fn carry<F: Future>(shared: &Arc<Shared>, queue: Queue, guest: &Rc<LoopCore>, root: &mut Root<'_, F>, idle: &Idle) {
    let (core, worker) = enter_loop_0(shared, queue);
    let remote = guest.remote();
    remote.set_carrier(Some(core.remote().clone()));
    while !root.is_done() && !shared.is_closing() {
        current::switch(&core);
        remote.parker().publish();
        let gift = || !remote.inbox().is_empty() || !guest.ready().is_empty() || shared.is_closing();
        let _ = match shared.has_peers() {
            true => worker.run_once(&gift, &mut || ControlFlow::Continue(())),
            false => core.turn(None, &gift, &mut || ControlFlow::Continue(())),
        };
        remote.parker().retract();
        current::switch(guest);
        root.obey_stop(&core, guest);
        run_guest(shared, guest, root, idle);
    }
    remote.set_carrier(None);
    current::switch(&core);
    leave_loop_0(shared, &core, &worker, || current::switch(guest));
}
