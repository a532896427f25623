package broker

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
)

func usersFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// users returns users by name and password, whose hashes cost next to nothing.
func users(t testing.TB, namesAndPasswords ...string) *Users {
	t.Helper()
	var text strings.Builder
	for i := 0; i < len(namesAndPasswords); i += 2 {
		salt := []byte("saltsalt")
		key := argon2.IDKey([]byte(namesAndPasswords[i+1]), salt, 1, 8, 1, 32)
		fmt.Fprintf(&text, "%s:$argon2id$v=19$m=8,t=1,p=1$%s$%s\n", namesAndPasswords[i],
			base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
	}
	u, err := LoadUsers(usersFile(t, text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsersLogInWithTheirPasswordOnly(t *testing.T) {
	hash, err := HashPassword([]byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := HashPassword([]byte("s3cret")); again == hash {
		t.Error("two hashes of one password are the same: no salt")
	}
	u, err := LoadUsers(usersFile(t, "# devices\n\npump:"+hash+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from memory
		for _, c := range []struct {
			name, password string
			want           bool
		}{
			{"pump", "s3cret", true}, {"pump", "S3cret", false}, {"pump", "", false},
			{"nobody", "s3cret", false}, {"", "", false}, {"# devices", "", false},
		} {
			if got := u.Verify(c.name, []byte(c.password)); got != c.want {
				t.Errorf("user %q, password %q: got %v", c.name, c.password, got)
			}
		}
	}
	if u.Len() != 1 {
		t.Errorf("got %d users, want 1", u.Len())
	}
}

func TestAStormOfReconnectsIsCheap(t *testing.T) {
	hash, err := HashPassword([]byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := LoadUsers(usersFile(t, "a:"+hash))
	if err != nil {
		t.Fatal(err)
	}
	u.Verify("a", []byte("p"))
	for range cap(u.work) { // from now on nobody can hash a password
		u.work <- struct{}{}
	}
	var storm sync.WaitGroup
	for range 1000 {
		storm.Go(func() {
			if !u.Verify("a", []byte("p")) {
				t.Error("refused")
			}
		})
	}
	verified := make(chan struct{})
	go func() { storm.Wait(); close(verified) }()
	select {
	case <-verified:
	case <-time.After(patience):
		t.Error("passwords that were right before are hashed again")
	}
}

func TestAReloadForgetsOnlyPasswordsThatChanged(t *testing.T) {
	b := start(t, newFakeLog(), func(o *Options) { o.Users = users(t, "pump", "1", "valve", "2") })
	old := b.access.Load().Users
	if !old.Verify("pump", []byte("1")) || !old.Verify("valve", []byte("2")) {
		t.Fatal("refused")
	}
	u := users(t, "pump", "1", "valve", "3")
	b.SetAccess(Access{Users: u})
	if len(u.right) != 1 || !u.Verify("pump", []byte("1")) || u.Verify("valve", []byte("2")) || !u.Verify("valve", []byte("3")) {
		t.Errorf("right passwords: %v", u.right)
	}
}

func TestMistakesInAUsersFileAreNamedByLine(t *testing.T) {
	good, err := HashPassword([]byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"no colon", "a:" + good + "\npump\n", "users:2: load users: want name:hash"},
		{"no name", ":" + good, "users:1: load users: want name:hash"},
		{"plain password", "a:secret", "not an argon2id hash"},
		{"another argon2", "a:" + strings.Replace(good, "argon2id", "argon2i", 1), "not an argon2id hash"},
		{"another version", "a:" + strings.Replace(good, "v=19", "v=16", 1), "version"},
		{"costs that stop the gateway", "a:" + strings.Replace(good, "m=19456", "m=99999999", 1), "out of range"},
		{"no lanes", "a:" + strings.Replace(good, "p=1", "p=0", 1), "out of range"},
		{"salt cut short", "a:$argon2id$v=19$m=19456,t=2,p=1$AA$AAAA", "base64"},
		{"twice", "a:" + good + "\na:" + good, "users:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := LoadUsers(usersFile(t, c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	if _, err := LoadUsers(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was loaded")
	}
	if _, err := HashPassword(nil); err == nil {
		t.Error("an empty password was hashed")
	}
}
