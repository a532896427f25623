package storage

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// openLog receives what Badger says while it opens: an error line there is an
// error of Open, which says the same, and no failure of a running log.
type openLog struct {
	next atomic.Pointer[badgerLog]
	last string
}

func (o *openLog) Errorf(format string, args ...any) {
	if b := o.next.Load(); b != nil {
		b.Errorf(format, args...)
		return
	}
	o.last = strings.TrimSpace(fmt.Sprintf(format, args...))
}

func (o *openLog) Warningf(format string, args ...any) {
	if b := o.next.Load(); b != nil {
		b.Warningf(format, args...)
	}
}
func (o *openLog) Infof(string, ...any)  {}
func (o *openLog) Debugf(string, ...any) {}
