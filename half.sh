. /tmp/exp/env.sh
cd /tmp/exp
export SHOW=1
# only half + paraphrase
python - <<'P' > half_tun.txt 2>&1
import sys,os,re
src=open('/tmp/exp/ev3.py').read()
src=src.replace('for name,w in ways.items():','for name,w in {"paraphrased":paraphrased}.items():').replace("tr=plain_trials(split[\"ordinary\"][:nord], 900_000); tell('ordinary', go('ordinary',tr,job_of(tr)), False)","")
sys.argv=['ev3.py','8','0','words']
exec(compile(src,'ev3','exec'))
P
