package pool

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The least time between two probes of a server: while something is wrong, and
// when a failed call asks for one.
const (
	probeOften  = 500 * time.Millisecond
	probeUrgent = 100 * time.Millisecond
)

// monitor probes the servers and keeps what is known of them. One goroutine runs
// it; others read the topology and ask for probes.
type monitor struct {
	endpoints []*endpoint
	probers   []*prober
	interval  time.Duration
	policy    lagPolicy
	logger    *slog.Logger
	// kicked asks for a probe of all servers soon.
	kicked chan struct{}
	// primary is where writes go, or nil.
	primary atomic.Pointer[endpoint]
	// stopped is closed when there will be no more probes.
	stopped chan struct{}

	mu       sync.Mutex
	topology topology
	// changed is closed, and replaced, after each probe.
	changed chan struct{}
}

func newMonitor(endpoints []*endpoint, cfg Config) *monitor {
	m := &monitor{
		endpoints: endpoints, interval: cfg.HealthInterval, policy: lagPolicy{time: cfg.MaxLag, bytes: cfg.MaxLagBytes},
		logger: cfg.Logger, kicked: make(chan struct{}, 1), topology: newTopology(len(endpoints)), changed: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	for _, e := range endpoints {
		m.probers = append(m.probers, &prober{endpoint: e, primary: &m.primary})
	}
	return m
}

// kick asks for a probe of all servers, soon.
func (m *monitor) kick() {
	select {
	case m.kicked <- struct{}{}:
	default:
	}
}

// run probes until the context ends: all servers each interval, or when it is
// asked to, and those with a problem more often. A server that does not answer
// keeps no other from being probed.
func (m *monitor) run(ctx context.Context) {
	var probing sync.WaitGroup
	defer func() {
		close(m.stopped)
		probing.Wait()
		for _, p := range m.probers {
			p.reset(ctx)
		}
	}()
	busy := make([]bool, len(m.probers))
	done := make(chan int, len(m.probers))
	probe := func(i int) {
		if !busy[i] {
			busy[i] = true
			probing.Go(func() {
				m.report(ctx, i, m.probers[i].probe(ctx))
				done <- i
			})
		}
	}
	all, often := time.NewTicker(m.interval), time.NewTicker(min(probeOften, m.interval))
	defer all.Stop()
	defer often.Stop()
	m.kick()
	var last time.Time
	var postponed <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-done:
			busy[i] = false
			continue
		case <-often.C:
			for _, i := range m.troubled() {
				probe(i)
			}
			continue
		case <-m.kicked:
			// Many calls may fail at once.
			if early := probeUrgent - time.Since(last); early > 0 {
				if postponed == nil {
					postponed = time.After(early)
				}
				continue
			}
		case <-postponed:
		case <-all.C:
		}
		last, postponed = time.Now(), nil
		for i := range m.probers {
			probe(i)
		}
	}
}

// troubled returns the servers to probe more often: those with a problem, or all
// while there is no primary that answers.
func (m *monitor) troubled() (servers []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	everyone := m.topology.primary < 0 || !m.topology.views[m.topology.primary].healthy()
	for i := range m.topology.views {
		if everyone || !m.topology.views[i].healthy() {
			servers = append(servers, i)
		}
	}
	return servers
}

// report takes in the outcome of a probe.
func (m *monitor) report(ctx context.Context, i int, p probe) {
	e := m.endpoints[i]
	m.mu.Lock()
	before := m.topology
	var c change
	m.topology, c = m.topology.with(i, p, m.policy)
	after := m.topology
	for n := range after.views {
		v := after.views[n]
		m.endpoints[n].view.Store(&v)
		switch {
		case v.forked > 0:
			m.endpoints[n].position.known.Store(0)
		case n == i && p.err == nil:
			e.position.known.Store(uint64(p.lsn))
		}
	}
	if after.primary >= 0 {
		m.primary.Store(m.endpoints[after.primary])
	} else {
		m.primary.Store(nil)
	}
	for _, n := range c.reset {
		m.endpoints[n].pool.Reset()
	}
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if slices.Contains(c.reset, i) {
		// It says goodbye to a server that may not listen: nothing waits for that.
		m.probers[i].reset(ctx)
	}
	m.tell(ctx, i, before, after, c)
}

// tell logs what is new.
func (m *monitor) tell(ctx context.Context, i int, before, after topology, c change) {
	log := m.logger.LogAttrs
	if c.newPrimary {
		if after.primary < 0 {
			log(ctx, slog.LevelError, "no server is the primary")
		} else {
			first, level := before.timeline == 0, slog.LevelWarn
			if first {
				level = slog.LevelInfo // as every start
			}
			log(ctx, level, "writes go to this primary from now on",
				slog.String("server", m.endpoints[after.primary].name), slog.Int64("timeline", after.timeline), slog.Bool("first", first))
		}
	}
	was, is := before.views[i], after.views[i]
	if was.problem == is.problem && was.probed {
		return
	}
	server := slog.String("server", m.endpoints[i].name)
	switch {
	case is.problem != "":
		attrs := []slog.Attr{server, slog.String("problem", is.problem)}
		if err := cmp.Or(is.err, is.unopened); err != nil {
			attrs = append(attrs, slog.String("class", Classify(err).String()), slog.String("sqlstate", sqlState(err)))
		}
		log(ctx, slog.LevelWarn, "a server is not used", attrs...)
	case was.problem != "":
		log(ctx, slog.LevelInfo, "a server is used again", server)
	}
}

// snapshot returns what is known, which must not be changed, and a channel that
// is closed when there is more.
func (m *monitor) snapshot() (topology, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topology, m.changed
}
