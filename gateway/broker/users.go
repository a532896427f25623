package broker

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// What HashPassword uses: 19 MiB, two passes, one lane.
const (
	hashMemory = 19 << 10 // KiB
	hashTime   = 2
	hashLanes  = 1
	hashSalt   = 16
	hashKey    = 32
)

// Users are the user names and password hashes of a users file. They do not
// change; load the file again to see changes. Safe for concurrent use.
type Users struct {
	hashes map[string]string
	work   chan struct{} // bounds the memory that hashing takes
	secret [32]byte      // key of the digests below

	mu    sync.Mutex
	right map[string][sha256.Size]byte // digest of the password that was right
	wrong map[string][sha256.Size]byte // and of the last one that was not
}

// LoadUsers reads a users file: one user a line as name:hash, the hash as
// HashPassword makes it. Empty lines and lines that begin with # are skipped.
func LoadUsers(path string) (*Users, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load users: %w", err)
	}
	u := &Users{
		hashes: make(map[string]string),
		work:   make(chan struct{}, 2),
		right:  make(map[string][sha256.Size]byte),
		wrong:  make(map[string][sha256.Size]byte),
	}
	_, _ = rand.Read(u.secret[:]) // never fails
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s:%d: load users: want name:hash; make one with holdfast passwd", path, n)
		}
		if _, err := decodeHash(hash); err != nil {
			return nil, fmt.Errorf("%s:%d: load users: user %q: %w", path, n, name, err)
		}
		if _, twice := u.hashes[name]; twice {
			return nil, fmt.Errorf("%s:%d: load users: user %q is there twice; remove one of the lines", path, n, name)
		}
		u.hashes[name] = hash
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("load users: %s: %w", path, err)
	}
	return u, nil
}

// Len returns the number of users.
func (u *Users) Len() int { return len(u.hashes) }

// Verify reports whether the user exists and the password is right. The first
// time it takes some 50 ms and 19 MiB, with at most two at a time; afterwards
// the same answer comes from memory, so that a thousand devices can reconnect
// at once.
func (u *Users) Verify(name string, password []byte) bool {
	hash, known := u.hashes[name]
	digest := u.digest(name, password)
	if known {
		u.mu.Lock()
		right, isRight := u.right[name]
		wrong, isWrong := u.wrong[name]
		u.mu.Unlock()
		switch {
		case isRight && right == digest:
			return true
		case isWrong && wrong == digest:
			return false
		}
	}
	u.work <- struct{}{}
	defer func() { <-u.work }()
	if !known {
		// As slow as for a user that exists, so that the time does not tell.
		argon2.IDKey(password, u.secret[:hashSalt], hashTime, hashMemory, hashLanes, hashKey)
		return false
	}
	ok, err := VerifyPassword(hash, password)
	ok = ok && err == nil
	u.mu.Lock()
	defer u.mu.Unlock()
	if ok {
		u.right[name] = digest
	} else {
		u.wrong[name] = digest
	}
	return ok
}

// remember takes over which passwords an older version of the users found
// right, before u is used: all devices may reconnect after a reload.
func (u *Users) remember(old *Users) {
	old.mu.Lock()
	defer old.mu.Unlock()
	u.secret = old.secret
	for name, digest := range old.right {
		if u.hashes[name] == old.hashes[name] {
			u.right[name] = digest
		}
	}
}

// digest stands for a password in memory.
func (u *Users) digest(name string, password []byte) (d [sha256.Size]byte) {
	h := hmac.New(sha256.New, u.secret[:])
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write(password)
	h.Sum(d[:0])
	return d
}

// HashPassword returns the argon2id hash of a password with a fresh salt, in
// the usual form $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func HashPassword(password []byte) (string, error) {
	if len(password) == 0 {
		return "", errors.New("hash password: it is empty")
	}
	salt := make([]byte, hashSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	key := argon2.IDKey(password, salt, hashTime, hashMemory, hashLanes, hashKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		hashMemory, hashTime, hashLanes, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// VerifyPassword reports whether the password has the given hash. The error
// says what is wrong with the hash.
func VerifyPassword(hash string, password []byte) (bool, error) {
	h, err := decodeHash(hash)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1, nil
}

type passwordHash struct {
	memory, time uint32
	lanes        uint8
	salt, key    []byte
}

// decodeHash reads an encoded hash. Its costs are bounded, since they are
// paid for everybody who tries to log in.
func decodeHash(s string) (h passwordHash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errors.New("not an argon2id hash; make one with holdfast passwd")
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return h, fmt.Errorf("argon2 version %q is not v=%d", parts[2], argon2.Version)
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.lanes); err != nil {
		return h, fmt.Errorf("parameters %q are not m=…,t=…,p=…", parts[3])
	}
	if h.memory < 8 || h.memory > 256<<10 || h.time < 1 || h.time > 10 || h.lanes < 1 || h.lanes > 16 {
		return h, fmt.Errorf("parameters %q are out of range: m 8 to 262144 (KiB), t 1 to 10, p 1 to 16", parts[3])
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err == nil {
		h.key, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 {
		return h, errors.New("salt or hash is not base64 of 8 to 64 and 16 to 64 bytes")
	}
	return h, nil
}
