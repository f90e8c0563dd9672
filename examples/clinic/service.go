package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/pool"
)

// tokenHeader carries where a write is in the database's log. Whoever sends it
// back with a read sees that write, whichever server answers.
const tokenHeader = "X-Read-Token"

// service answers requests.
type service struct {
	db     *pool.DB
	logger *slog.Logger
}

// patient is one as clients see it.
type patient struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Visits int    `json:"visits"`
}

// prepare makes the tables if they are not there.
func prepare(ctx context.Context, db *pool.DB) error {
	_, err := db.Exec(pool.WithIdempotent(ctx), `
		CREATE TABLE IF NOT EXISTS clinic_patients (id bigint PRIMARY KEY, name text NOT NULL, visits int NOT NULL DEFAULT 0);
		CREATE TABLE IF NOT EXISTS clinic_visits (patient bigint NOT NULL REFERENCES clinic_patients, at timestamptz NOT NULL DEFAULT now())`)
	return err
}

// requestError is one of the client's.
type requestError string

func (e requestError) Error() string { return string(e) }

// handle calls a handler of one patient with the token of the request, and turns
// an error into an answer.
func (s *service) handle(do func(ctx context.Context, id int64, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// The log of slow queries says where one comes from.
		ctx := pool.WithTag(r.Context(), r.Pattern)
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			s.fail(w, r, requestError("the id of a patient is a number"))
			return
		}
		if text := r.Header.Get(tokenHeader); text != "" {
			token, err := pool.ParseLSN(text)
			if err != nil {
				s.fail(w, r, requestError(tokenHeader+" is not one that this service gave"))
				return
			}
			ctx = pool.WithToken(ctx, token)
		}
		answer, err := do(ctx, id, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if r.Method != http.MethodGet {
			// Without a token the write is done all the same.
			if token, err := s.db.Token(ctx); err == nil {
				w.Header().Set(tokenHeader, token.String())
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// fail answers with what the class of an error means to a client. The error
// itself is for the log: it can name tables and servers.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var wrong requestError
	if errors.As(err, &wrong) {
		http.Error(w, wrong.Error(), http.StatusBadRequest)
		return
	}
	class := pool.Classify(err)
	switch class {
	case pool.ClassNoRows:
		http.Error(w, "no such patient", http.StatusNotFound)
		return
	case pool.ClassConstraint:
		http.Error(w, "no such patient, or one that may not be so", http.StatusConflict)
		return
	}
	s.logger.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "class", class.String(), "hint", pool.Hint(err))
	switch {
	case class == pool.ClassOutcomeUnknown:
		http.Error(w, "it may have been done or not: look before you try again", http.StatusInternalServerError)
	case class.Retryable() || errors.Is(err, pool.ErrShutdown):
		w.Header().Set("Retry-After", "2")
		http.Error(w, "come back in a moment", http.StatusServiceUnavailable)
	case class == pool.ClassTimeout:
		http.Error(w, "it took too long", http.StatusGatewayTimeout)
	default:
		http.Error(w, "this is our fault", http.StatusInternalServerError)
	}
}

// putPatient writes a patient. Doing it twice is doing it once: so it is tried
// again even after a connection was lost in the middle of it.
func (s *service) putPatient(ctx context.Context, id int64, r *http.Request) (any, error) {
	var p patient
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10)).Decode(&p); err != nil || p.Name == "" || strings.ContainsRune(p.Name, 0) {
		return nil, requestError(`send JSON such as {"name": "Ada"}`)
	}
	p.ID = id
	err := s.db.QueryRow(pool.WithIdempotent(ctx), `INSERT INTO clinic_patients (id, name) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING visits`, id, p.Name).Scan(&p.Visits)
	return p, err
}

// getPatient reads a patient, from a standby if there is one that is fresh
// enough.
func (s *service) getPatient(ctx context.Context, id int64, _ *http.Request) (any, error) {
	p := patient{ID: id}
	err := s.db.Read(ctx).QueryRow(ctx, "SELECT name, visits FROM clinic_patients WHERE id = $1", id).Scan(&p.Name, &p.Visits)
	return p, err
}

// addVisit counts a visit. The transaction is run again as a whole if another
// one was in its way.
func (s *service) addVisit(ctx context.Context, id int64, _ *http.Request) (any, error) {
	p := patient{ID: id}
	err := s.db.InTx(ctx, pool.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "UPDATE clinic_patients SET visits = visits + 1 WHERE id = $1 RETURNING name, visits", id).Scan(&p.Name, &p.Visits)
		if err != nil {
			return fmt.Errorf("count the visit: %w", err)
		}
		_, err = tx.Exec(ctx, "INSERT INTO clinic_visits (patient) VALUES ($1)", id)
		return err
	})
	return p, err
}
