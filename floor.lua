response=function(s,h,b) if s>299 then bad=(bad or 0)+1; if bad<3 then print(s,b) end end end
