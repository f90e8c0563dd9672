-- name: Book :one
INSERT INTO appointments (patient, room) VALUES (@patient, @room) RETURNING id;

-- name: Import :copyfrom
INSERT INTO appointments (patient, room) VALUES (@patient, @room);

-- name: InRoom :many
SELECT id, patient, room FROM appointments WHERE room = @room ORDER BY id;

-- name: Room :one
SELECT room FROM appointments WHERE id = @id;

-- name: Move :exec
UPDATE appointments SET room = @room WHERE id = @id;
