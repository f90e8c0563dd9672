CREATE TABLE appointments (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient text NOT NULL,
    room    integer NOT NULL
);
CREATE INDEX appointments_room ON appointments (room);
