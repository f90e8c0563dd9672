package pool

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The pauses between two requests to cancel the same statement, and how long the
// signal of one may be under way: it must not hit the next statement. pgx waits
// as long.
const (
	cancelAgain  = 250 * time.Millisecond
	cancelSeldom = 5 * time.Second
	cancelFlight = 100 * time.Millisecond
)

// canceler asks the server to cancel the statement of a connection whose context
// has ended, and closes the connection if it has not ended by the grace. Pgx's
// own handler asks once; a request that overtakes its statement finds nothing to
// cancel, and the connection would be lost for it.
type canceler struct {
	conn  *pgconn.PgConn
	grace time.Duration

	stop context.CancelFunc
	done chan struct{}
}

// HandleCancel implements ctxwatch.Handler.
func (c *canceler) HandleCancel(ctx context.Context) {
	if s, _ := c.conn.CustomData()[sessionKey].(*session); s != nil && !s.busy() {
		// It waits for a notification or a sign of life: there is nothing to cancel.
		_ = c.conn.Conn().SetDeadline(time.Unix(1, 0))
		return
	}
	deadline := time.Now().Add(c.grace)
	_ = c.conn.Conn().SetDeadline(deadline)
	bounded, stopAsking := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	ctx, c.stop = context.WithCancel(bounded)
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		defer stopAsking()
		for pause := cancelAgain; ; pause = min(2*pause, cancelSeldom) {
			// To its end, even if the statement has ended: what was sent can't be
			// called back. Whether it helped shows in the statement's end.
			_ = c.conn.CancelRequest(bounded)
			asked := time.Now()
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				time.Sleep(cancelFlight - time.Since(asked))
				return
			}
		}
	}()
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler.
func (c *canceler) HandleUnwatchAfterCancel() {
	if c.stop != nil {
		c.stop()
		<-c.done
		c.stop = nil
	}
	_ = c.conn.Conn().SetDeadline(time.Time{})
}
